package config

import (
	"io/fs"
	"path/filepath"
)

// Place is a directory in which a store may be.
type Place struct {
	Path  string
	From  string // Who names it: a flag, a variable, a line of the config file, a default.
	Found bool   // It holds a registry.
}

// FindStore tells which store serve, gc and check work on: what the flag
// names, else $REGCTL_DATA, else what c names (its variable before its file),
// else /var/lib/registry if that holds a registry, else the user's data
// directory. It never is the current directory. The second result is every
// place it looked at, in order; the first is the last of these, or zero if
// there is none. c may be nil.
func FindStore(flag string, c *Config, getenv func(string) string, stat func(string) (fs.FileInfo, error)) (Place, []Place) {
	var looked []Place
	look := func(path, from string) bool {
		info, err := stat(filepath.Join(path, "docker", "registry", "v2"))
		looked = append(looked, Place{path, from, err == nil && info.IsDir()})
		return looked[len(looked)-1].Found
	}
	data := getenv("REGCTL_DATA")
	switch {
	case flag != "":
		look(flag, "--data")
	case data != "":
		look(data, "$REGCTL_DATA")
	case c != nil && c.Storage.Root != "":
		look(c.Storage.Root, c.Storage.RootFrom)
	case look(rootOfRegistry2, "the directory of registry:2"):
	default:
		path, from := userData(getenv)
		if path == "" {
			return Place{}, looked
		}
		look(path, from)
	}
	return looked[len(looked)-1], looked
}

// userData is where the XDG Base Directory Specification wants data of a user.
func userData(getenv func(string) string) (path, from string) {
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "regctl"), "$XDG_DATA_HOME"
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "regctl"), "the default"
	}
	return "", ""
}
