package client

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	helpers "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
)

// LoginFile is a file of logins as docker keeps it, with the helpers that it
// names. Only what belongs to the login in hand is changed in it.
type LoginFile struct {
	Path string // Of config.json; made if it does not exist. A link is followed.
	// Environ is the environment of helpers; nil: that of this process.
	Environ []string
	// Timeout is how long a helper may take; 0: 10 seconds.
	Timeout time.Duration
}

// Store keeps the login for host, such as "docker.io" or "localhost:5000", for
// docker and for [Credentials] to find: with the helper that the file names,
// else in the file, which then nobody else may read. It returns where it is
// kept: the name of a program or that of a file.
// Errors: none with a code; a file that cannot be parsed is left as it is.
func (f *LoginFile) Store(ctx context.Context, host string, login authn.AuthConfig) (where string, err error) {
	file, err := f.read()
	if err != nil {
		return "", err
	}
	key := loginKey(host)
	entry, where := loginEntry(login), f.Path
	if helper := file.helper(key); helper != "" {
		if where, err = f.store(ctx, helper, key, login); err != nil {
			return "", err
		}
		entry = struct{}{}                    // Tells docker that there is one.
		if file, err = f.read(); err != nil { // The helper took its time, and others may have logged in.
			return "", err
		}
	}
	raw, err := json.Marshal(entry)
	if err != nil {
		return "", err
	}
	file.auths.set(key, raw)
	return where, file.write()
}

// Erase forgets the login for host, in the file and with the helper that it
// names, and tells whether there was one.
// Errors: none with a code; a file that cannot be parsed is left as it is.
func (f *LoginFile) Erase(ctx context.Context, host string) (found bool, err error) {
	file, err := f.read()
	if err != nil {
		return false, err
	}
	key := loginKey(host)
	if helper := file.helper(key); helper != "" {
		if found, err = f.erase(ctx, helper, key); err != nil {
			return false, err
		}
		if file, err = f.read(); err != nil { // The helper took its time.
			return false, err
		}
	}
	changed := false
	for _, address := range file.auths.keys() {
		if address == key || aliasOf(address) == aliasOf(key) {
			raw, _ := file.auths.get(address)
			found = found || len(raw) > len("{}")
			file.auths.remove(address)
			changed = true
		}
	}
	if !changed {
		return found, nil
	}
	return found, file.write()
}

// loginKey is what docker keeps the login for host under.
func loginKey(host string) string {
	_, host = splitScheme(host)
	if aliasOf(host) == hub {
		return authn.DefaultAuthKey
	}
	return host
}

// loginEntry is a login as the file has it.
func loginEntry(login authn.AuthConfig) any {
	entry := struct {
		Auth          string `json:"auth,omitempty"`
		IdentityToken string `json:"identitytoken,omitempty"`
		RegistryToken string `json:"registrytoken,omitempty"`
	}{IdentityToken: login.IdentityToken, RegistryToken: login.RegistryToken}
	if login.Username != "" {
		entry.Auth = base64.StdEncoding.EncodeToString([]byte(login.Username + ":" + login.Password))
	}
	return entry
}

func (f *LoginFile) store(ctx context.Context, helper, key string, login authn.AuthConfig) (program string, err error) {
	secret := credentials.Credentials{ServerURL: key, Username: login.Username, Secret: login.Password}
	switch {
	case login.IdentityToken != "":
		secret.Username, secret.Secret = tokenUser, login.IdentityToken
	case login.RegistryToken != "":
		return "", fmt.Errorf("docker-credential-%s cannot keep a token of a registry", helper)
	}
	h := f.helperCall(ctx, helper)
	defer h.cancel()
	return h.name, h.failed(helpers.Store(h.program, &secret))
}

// erase tells whether the helper had a login for key.
func (f *LoginFile) erase(ctx context.Context, helper, key string) (found bool, err error) {
	h := f.helperCall(ctx, helper)
	defer h.cancel()
	if _, err = helpers.Get(h.program, key); credentials.IsErrCredentialsNotFound(err) {
		return false, nil
	}
	if err == nil {
		err = helpers.Erase(h.program, key)
	}
	return err == nil, h.failed(err)
}

func (f *LoginFile) helperCall(ctx context.Context, helper string) *helperCall {
	return newHelperCall(ctx, helper, f.Environ, f.Timeout)
}

// loginFile is what is in a LoginFile.
type loginFile struct {
	path  string // Where it really is.
	all   object
	auths object
}

func (f *LoginFile) read() (*loginFile, error) {
	path, err := followed(f.Path)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	file := &loginFile{path: path}
	if len(raw) > 0 {
		if err := file.parse(raw); err != nil {
			return nil, fmt.Errorf("%s: %w; left as it is", f.Path, err)
		}
	}
	return file, nil
}

func (f *loginFile) parse(raw []byte) error {
	if err := json.Unmarshal(raw, &f.all); err != nil {
		return err
	}
	if auths, ok := f.all.get("auths"); ok {
		return json.Unmarshal(auths, &f.auths)
	}
	return nil
}

// followed is the file at the end of the links at path, which need not exist.
func followed(path string) (string, error) {
	for range 40 {
		next, err := os.Readlink(path)
		if err != nil {
			return path, nil // No link, or nothing there.
		}
		if !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(path), next)
		}
		path = next
	}
	return "", fmt.Errorf("%s: too many links", path)
}

// helper is the name of the program that keeps the login under key, or "".
func (f *loginFile) helper(key string) string {
	var store string
	var own map[string]string
	for name, into := range map[string]any{"credsStore": &store, "credHelpers": &own} {
		if raw, ok := f.all.get(name); ok {
			_ = json.Unmarshal(raw, into) // Of another type: docker takes none either.
		}
	}
	return cmp.Or(own[key], store)
}

// write puts the file in its place in one step, for its owner only.
func (f *loginFile) write() error {
	auths, err := json.Marshal(&f.auths)
	if err != nil {
		return err
	}
	f.all.set("auths", auths)
	raw, err := json.MarshalIndent(&f.all, "", "\t")
	if err != nil {
		return err
	}
	dir := filepath.Dir(f.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, filepath.Base(f.path)+".*.tmp") // Mode 0600.
	if err != nil {
		return err
	}
	_, err = temp.Write(append(raw, '\n'))
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), f.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
