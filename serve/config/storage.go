package config

func storageSection() field {
	return field{strict: "no such storage driver or key", fields: section{
		"filesystem": {driver: true, fields: section{
			"rootdirectory": {set: setString(func(c *Config) *string { return &c.Storage.Root })},
			"maxthreads":    {state: accepted},
			"sync":          {set: setSync},
		}},
		"inmemory": {driver: true, bare: true, open: true, set: func(c *Config, _ node) error { c.Storage.InMemory = true; return nil }},
		"s3":       notYetDriver("s3"),
		"s3aws":    notYetDriver("s3aws"),
		"azure":    notYetDriver("azure"),
		"gcs":      notYetDriver("gcs"),
		"oss":      notYetDriver("oss; registry 3 has dropped it for s3, which OSS speaks and which will be built"),
		"swift":    notYetDriver("swift"),
		"delete":   {fields: section{"enabled": {set: setBool(func(c *Config) *bool { return &c.Storage.Deletes })}}},
		"redirect": {state: accepted, open: true},
		"cache":    {state: accepted, open: true},
		"tag":      {state: accepted, open: true},
		"maintenance": {fields: section{
			"uploadpurging": purgingSection(),
			"readonly": {strict: "no such key, write readonly: {enabled: true}", fields: section{
				"enabled": {set: setBool(func(c *Config) *bool { return &c.Storage.ReadOnly })},
			}},
		}},
	}}
}

func notYetDriver(name string) field {
	return field{state: refused, driver: true, bare: true, open: true, secret: true,
		note: "of the storage drivers only filesystem and inmemory are, not " + name}
}

func setSync(c *Config, n node) error {
	sync := true
	err := setBool(func(*Config) *bool { return &sync })(c, n)
	c.Storage.NoSync = !sync
	return err
}
