package commands

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCalled: what an image of registry:2 is started with, and more.
func TestCalled(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":                                       "regctl:",
		"regctl ls -l":                           "regctl: ls -l",
		"/usr/local/bin/regctl-0.1 gc":           "regctl: gc",
		"/bin/registry":                          "registry:",
		"/bin/registry serve":                    "registry: serve",
		"registry.exe --version":                 "registry: --version",
		"REGISTRY.EXE --version":                 "regctl: --version", // A name of Windows is one.
		"/usr/bin/docker-registry serve x.yml":   "registry: serve x.yml",
		"/entrypoint.sh /etc/registry.yml":       "registry: serve /etc/registry.yml",
		"/bin/registry /etc/x/config.yml":        "registry: serve /etc/x/config.yml",
		"/bin/registry config.yaml -x":           "registry: serve config.yaml -x",
		"/bin/registry registry serve x.yml":     "registry: serve x.yml",
		"/bin/registry bin/registry -v":          "registry: -v",
		"/bin/registry registry":                 "registry:",
		"/bin/registry htpasswd -Bbn u p":        "htpasswd: -Bbn u p",
		"/bin/registry regctl prune --keep 1":    "regctl: prune --keep 1",
		"/bin/registry garbage-collect -m a.yml": "registry: garbage-collect -m a.yml",
		"/bin/registry sh -c x":                  "registry: sh -c x",
		"/bin/htpasswd -nbB registry x.yml":      "htpasswd: -nbB registry x.yml",
		"regctl registry":                        "regctl: registry",
	} {
		program, args := called(strings.Fields(line))
		if got := strings.TrimSpace(program + ": " + strings.Join(args, " ")); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

// TestRegistry2Usage: what makes no sense says what does.
func TestRegistry2Usage(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"registry ls":                     `registry has no command "ls", only serve, garbage-collect and help; if it is one of regctl: regctl ls`,
		"registry sh -c true":             `registry has no command "sh", only serve, garbage-collect and help; if it is one of regctl: regctl sh`,
		"registry serve":                  "which configuration? registry serve CONFIG.yml, or $REGISTRY_CONFIGURATION_PATH; without one: regctl serve",
		"registry garbage-collect -m":     "which configuration? registry garbage-collect CONFIG.yml, or $REGISTRY_CONFIGURATION_PATH; without one: regctl gc",
		"registry serve a.yml b.yml":      `registry serve takes no argument "b.yml"; see: registry serve --help`,
		"registry garbage-collect -x a.y": "unknown shorthand flag: 'x' in -x; see: registry garbage-collect --help",
	} {
		env := newTestEnv(nil)
		status := Run(t.Context(), env.Env, strings.Fields(line))
		if got := strings.TrimSpace(env.stderr.String()); status != exitUsage || got != want || env.stdout.Len() > 0 {
			t.Errorf("%s: exit status %d, %q, %q; want %q", line, status, env.stdout, got, want)
		}
	}
}

// TestConfigPath: the first that is named or, where there are none, is there.
func TestConfigPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	there, missing := filepath.Join(dir, "b.yml"), filepath.Join(dir, "a.yml")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	probe := configFiles + "=" + missing + string(filepath.ListSeparator) + there
	for _, c := range []struct {
		named   string
		environ []string
		want    string
	}{
		{"", nil, ""},
		{"", []string{probe}, there},
		{"", []string{configFiles + "=" + missing}, ""},
		{"", []string{probe, "REGISTRY_CONFIGURATION_PATH=c.yml"}, "c.yml"},
		{"d.yml", []string{probe, "REGISTRY_CONFIGURATION_PATH=c.yml"}, "d.yml"},
	} {
		if got := newTestEnv(nil, c.environ...).configPath(c.named); got != c.want {
			t.Errorf("%q %q: got %q, want %q", c.named, c.environ, got, c.want)
		}
	}
}

func TestParseApache(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]apacheOptions{
		"-Bbn user pass":           {Bcrypt: true, Batch: true, Print: true, User: "user", Password: "pass"},
		"-nbB user pass":           {Bcrypt: true, Batch: true, Print: true, User: "user", Password: "pass"},
		"-nb user pass":            {Batch: true, Print: true, User: "user", Password: "pass"},
		"-n -b -B user pass":       {Bcrypt: true, Batch: true, Print: true, User: "user", Password: "pass"},
		"-bn user -pass":           {Batch: true, Print: true, User: "user", Password: "-pass"},
		"-Bbn -C 12 user --":       {Bcrypt: true, Batch: true, Print: true, User: "user", Password: "--", Cost: 12},
		"-BbnC 4 user pass":        {Bcrypt: true, Batch: true, Print: true, User: "user", Password: "pass", Cost: 4},
		"-BbnC17 user pass":        {Bcrypt: true, Batch: true, Print: true, User: "user", Password: "pass", Cost: 17},
		"-cb file user pass":       {Create: true, Batch: true, File: "file", User: "user", Password: "pass"},
		"-b file user pass":        {Batch: true, File: "file", User: "user", Password: "pass"},
		"-Bi file user":            {Bcrypt: true, Stdin: true, File: "file", User: "user"},
		"-ni user":                 {Stdin: true, Print: true, User: "user"},
		"file user":                {File: "file", User: "user"},
		"-D file user":             {Delete: true, File: "file", User: "user"},
		"-vb file user pass":       {Verify: true, Batch: true, File: "file", User: "user", Password: "pass"},
		"-v file user":             {Verify: true, File: "file", User: "user"},
		"-B -c -b -- f -user pass": {Bcrypt: true, Create: true, Batch: true, File: "f", User: "-user", Password: "pass"},
	} {
		if want.Cost == 0 {
			want.Cost = 5
		}
		got, err := parseApache(strings.Fields(line))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("htpasswd %s: got %+v, %v; want %+v", line, got, err, want)
		}
	}
}

func TestParseApacheErrors(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]struct {
		status int
		text   string
	}{
		"":                   {apacheSyntax, "0 arguments, where it takes 2: FILE USER\nUsage:"},
		"-Bbn user":          {apacheSyntax, "1 arguments, where it takes 2: USER PASSWORD\n"},
		"-Bn user pass":      {apacheSyntax, "2 arguments, where it takes 1: USER\n"},
		"-cn user":           {apacheSyntax, "-c and -n do not go together"},
		"-cD file user":      {apacheSyntax, "-c and -D do not go together"},
		"-bi file user":      {apacheSyntax, "-b and -i do not go together"},
		"-x file user":       {apacheSyntax, "unknown shorthand flag"},
		"--help":             {apacheSyntax, "Usage:"},
		"-mbn user pass":     {apacheSyntax, "-m makes passwords that registry:2 does not read, so that all its logins fail; use -B"},
		"-p file user":       {apacheSyntax, "-p makes passwords"},
		"-5 file user":       {apacheSyntax, "-5 makes passwords"},
		"–nb -B user pass":   {apacheSyntax, `"–nb" begins with an en dash; type -nb`},
		"-Bbn a:b pass":      {apacheUser, "colon"},
		"-BbnC 3 user pass":  {apachePassword, "from 4 to 17"},
		"-BbnC 18 user pass": {apachePassword, "from 4 to 17"},
		"-Bbn -C x a pass":   {apacheSyntax, "invalid argument"},
	} {
		_, err := parseApache(strings.Fields(line))
		if exitStatus(err) != want.status || !strings.Contains(err.Error(), want.text) {
			t.Errorf("htpasswd %s: got %d, %v; want %d, %s", line, exitStatus(err), err, want.status, want.text)
		}
	}
}

var bcryptOf = regexp.MustCompile(`\$2y\$(\d\d)\$[./A-Za-z0-9]{53}`)

// TestAsApache does the same with Apache's own program, where it is, and wants
// the same exit status, output, talk and file; but for what is told to be
// better here.
func TestAsApache(t *testing.T) {
	t.Parallel()
	theirs, err := exec.LookPath("htpasswd")
	if err != nil && os.Getenv("REGCTL_PEERS") == "required" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip("Apache's htpasswd is not installed")
	}
	dirs := [2]string{t.TempDir(), t.TempDir()}
	for _, line := range []string{
		"-Bbn user pass", "-BbnC 7 user pass", "-nbB user pass", "-Bni user",
		"-Bb FILE user pass", // It is not there.
		"-Bbc FILE user pass", "-Bb FILE second pass", "-Bb FILE user other", "-B -b FILE third pass", "-Bi FILE third",
		"-vb FILE user other", "-vb FILE user pass", "-vb FILE nobody pass", "-vi FILE third",
		"-D FILE nobody", "-D FILE second",
		"-Bbn a:b pass", "-BbnC 3 user pass", "-Bbn user", "-cn user", "-cD FILE user", "-bi FILE user pass", "-Q", "",
		"-D FILE.missing user", "-vb FILE.missing user pass",
	} {
		var results [2]apacheResult
		for i, dir := range dirs {
			args := strings.Fields(strings.ReplaceAll(line, "FILE", filepath.Join(dir, "htpasswd")))
			if i == 0 {
				results[i] = runTheirs(t, theirs, args)
			} else {
				results[i] = runOurs(args)
			}
			results[i].read(t, filepath.Join(dir, "htpasswd"))
		}
		if !reflect.DeepEqual(results[0], results[1]) {
			t.Errorf("htpasswd %s:\ntheirs %+v\nours   %+v", line, results[0], results[1])
		}
	}
}

// apacheResult is what came of a command line; hashes are told by their cost.
type apacheResult struct {
	Status       int
	Stdout, Talk string // The talk is compared only if all went well: errors are told in other words.
	File         string
	Mode         os.FileMode
}

func (r *apacheResult) read(t *testing.T, file string) {
	t.Helper()
	r.Stdout = bcryptOf.ReplaceAllString(r.Stdout, "bcrypt $1")
	if r.Status != 0 {
		r.Talk = ""
	}
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	info, statErr := os.Stat(file)
	if err != nil || statErr != nil {
		t.Fatal(err, statErr)
	}
	r.File, r.Mode = bcryptOf.ReplaceAllString(string(raw), "bcrypt $1"), info.Mode()
}

const typed = "typed\nlines\n"

func runTheirs(t *testing.T, program string, args []string) apacheResult {
	t.Helper()
	cmd := exec.Command(program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(typed), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return apacheResult{Status: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Talk: stderr.String()}
}

func runOurs(args []string) apacheResult {
	env := newTestEnv(nil)
	env.Stdin = strings.NewReader(typed)
	status := env.end(runApache(env.Env, args))
	return apacheResult{Status: status, Stdout: env.stdout.String(), Talk: env.stderr.String()}
}

// TestApacheAsks: at a terminal it asks, twice for what it writes.
func TestApacheAsks(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "htpasswd")
	for _, c := range []struct {
		line   string
		typed  []string
		status int
		talk   string
	}{
		{"-Bc", []string{"secret", "secret"}, 0, "New password: \nRe-type new password: \nAdding password for user user\n"},
		{"-v", []string{"secret"}, 0, "Enter password: \nPassword for user user correct.\n"},
		{"-v", []string{"other"}, apachePassword, "Enter password: \nhtpasswd: password verification failed\n"},
		{"-B", []string{"one", "other"}, apachePassword, "New password: \nRe-type new password: \nhtpasswd: the passwords are not the same\n"},
	} {
		env := newTestEnv(nil)
		env.Asks = true
		env.ReadPassword = func() (string, error) {
			next := c.typed[0]
			c.typed = c.typed[1:]
			return next, nil
		}
		status := env.end(runApache(env.Env, []string{c.line, file, "user"}))
		if status != c.status || env.stderr.String() != c.talk || len(c.typed) > 0 {
			t.Errorf("%s: exit status %d, said %q, want %d, %q", c.line, status, env.stderr, c.status, c.talk)
		}
	}
}

// TestEveryFlagOfApache: each is either done or explained.
func TestEveryFlagOfApache(t *testing.T) {
	t.Parallel()
	for _, flag := range "cimB25dpsDvbn" {
		_, err := parseApache([]string{"-" + string(flag)})
		if err != nil && strings.Contains(err.Error(), "unknown") {
			t.Errorf("-%c is not known", flag)
		}
		if slices.Contains([]rune("cimBDvbn"), flag) && flag != 'm' && !strings.Contains(apacheUsage, " -"+string(flag)) {
			t.Errorf("-%c is not in the usage", flag)
		}
	}
}
