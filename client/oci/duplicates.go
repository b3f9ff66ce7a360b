package oci

import (
	"bytes"
	"encoding/json"
	"strings"
)

// checkKeys refuses JSON in which an object has a key twice, or twice but for
// case: of these, one reader takes the first, another the last, and Go takes
// "Digest" for "digest". Keys of annotations are the user's own and may
// differ in case.
func checkKeys(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return checkValue(d, "")
}

// checkValue reads one value, which stands under key.
func checkValue(d *json.Decoder, key string) error {
	token, err := d.Token()
	if err != nil {
		return Errorf(ManifestInvalid, "manifest is not JSON: %v", err)
	}
	switch token {
	case json.Delim('{'):
		return checkObject(d, key)
	case json.Delim('['):
		for d.More() {
			if err := checkValue(d, key); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	if err != nil {
		return Errorf(ManifestInvalid, "manifest is not JSON: %v", err)
	}
	return nil
}

func checkObject(d *json.Decoder, in string) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return Errorf(ManifestInvalid, "manifest is not JSON: %v", err)
		}
		key, _ := token.(string) // Nothing else can be a key.
		same := key
		if in != "annotations" {
			same = strings.ToLower(strings.ToUpper(key)) // Folds what encoding/json folds, ſ and K too.
		}
		if seen[same] {
			return Errorf(ManifestInvalid, "manifest has the field %q twice in one object", clip(key))
		}
		seen[same] = true
		if err := checkValue(d, key); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return Errorf(ManifestInvalid, "manifest is not JSON: %v", err)
	}
	return nil
}
