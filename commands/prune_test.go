package commands

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve"
)

// scriptImages is the command
//
//	images [-foreign] [-digests] [-off] VAR REPO:TAG=IMAGE[@AGE]...
//
// of scripts: it starts a regctl serve in which each tag points to an image
// of that name, built so long ago (such as 40d), and pushed in this order; it
// sets VAR to the address. Tags with "sha256-IMAGE" in them are named after the
// digest of that image. A foreign one has no extensions, one with -digests
// deletes by digest only, one that is -off deletes nothing.
func scriptImages(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	foreign := flags.Bool("foreign", false, "")
	digests := flags.Bool("digests", false, "")
	off := flags.Bool("off", false, "")
	if err := flags.Parse(args); neg || err != nil || flags.NArg() < 2 {
		ts.Fatalf("usage: images [-foreign] [-digests] [-off] VAR REPO:TAG=IMAGE[@AGE]...")
	}
	reg := ocitest.NewRegistry()
	made := map[string]oci.Digest{}
	for _, arg := range flags.Args()[1:] {
		name, image, _ := strings.Cut(arg, "=")
		repo, tag, _ := strings.Cut(name, ":")
		image, age, _ := strings.Cut(image, "@")
		if of, ok := strings.CutPrefix(tag, "sha256-"); ok {
			of, suffix, _ := strings.Cut(of, ".")
			tag = strings.Replace(string(made[of]), ":", "-", 1) + "." + suffix
		}
		d, err := putImage(reg, repo, tag, image, age)
		ts.Check(err)
		made[image] = d
	}
	h := limited(serve.NewHandler(reg, serve.Options{}), *foreign, *digests, *off)
	server := httptest.NewServer(h)
	ts.Defer(server.Close)
	ts.Setenv(flags.Arg(0), server.Listener.Addr().String())
	for image, d := range made {
		ts.Setenv(strings.ToUpper(image), string(d))
	}
}

func limited(h http.Handler, foreign, digests, off bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		byTag := strings.Contains(r.URL.Path, "/manifests/") && !strings.Contains(r.URL.Path, "sha256:")
		switch {
		case r.Method == http.MethodDelete && off:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case r.Method == http.MethodDelete && digests && byTag:
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}`))
		case strings.Contains(r.URL.Path, "/_regctl/") && foreign:
			w.WriteHeader(http.StatusNotFound)
		default:
			if foreign {
				w = withoutExtensions{w}
			}
			h.ServeHTTP(w, r)
		}
	})
}

// withoutExtensions keeps what a server says of itself.
type withoutExtensions struct{ http.ResponseWriter }

func (w withoutExtensions) WriteHeader(status int) {
	w.Header().Del("Regctl-Extensions")
	w.ResponseWriter.WriteHeader(status)
}

func (w withoutExtensions) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func putImage(reg oci.Registry, repo, tag, image, age string) (oci.Digest, error) {
	created := ""
	if age != "" {
		d, err := parseAge(age)
		if err != nil {
			return "", err
		}
		created = time.Now().Add(-d).UTC().Format(time.RFC3339)
	}
	var descs []oci.Descriptor
	for _, data := range []string{ocitest.Config("linux/amd64", created), "base of " + repo, "layer of " + image} {
		up, err := reg.Upload(context.Background(), repo, "", oci.UploadOptions{})
		if err == nil {
			_, err = up.Write([]byte(data))
		}
		if err != nil {
			return "", err
		}
		desc, err := up.Commit(context.Background(), digest.FromString(data))
		if err != nil {
			return "", err
		}
		desc.MediaType = "application/vnd.oci.image.layer.v1.tar"
		descs = append(descs, desc)
	}
	descs[0].MediaType = "application/vnd.oci.image.config.v1+json"
	raw, err := json.Marshal(ocitest.NewImage(descs[0], descs[1:]...))
	if err != nil {
		return "", err
	}
	desc, err := reg.PutManifest(context.Background(), repo, oci.Put{Raw: raw, Tags: []string{tag}})
	return desc.Digest, err
}

// scriptRetag is the command
//
//	retag HOST REPO TAG NEW
//
// of scripts: it makes a tag point to what another one points to.
func scriptRetag(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 4 {
		ts.Fatalf("usage: retag HOST REPO TAG NEW")
	}
	reg, err := client.New(args[0], client.Options{})
	ts.Check(err)
	m, err := reg.Manifest(context.Background(), args[1], args[2])
	ts.Check(err)
	_, err = reg.PutManifest(context.Background(), args[1], oci.Put{Raw: m.Raw, Tags: args[3:]})
	ts.Check(err)
}

// TestPruneAsks wants a question on a terminal, and nothing done but on a yes.
func TestPruneAsks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		answer string
		status int
		talk   string
		left   int
	}{
		{"n\n", exitFailed, "nothing was deleted\n", 3}, {"", exitFailed, "nothing was deleted\n", 3},
		{"y\n", exitDone, "deleted 2 tags; regctl gc frees ", 1},
	} {
		reg := ocitest.NewRegistry()
		for _, tag := range []string{"1", "2", "3"} {
			if _, err := putImage(reg, "app", tag, tag, ""); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(serve.NewHandler(reg, serve.Options{}))
		defer server.Close()
		env := pruneEnv(t)
		env.Asks, env.Stdin, env.Now = true, strings.NewReader(c.answer), time.Now
		host := server.Listener.Addr().String()
		if got := Main(t.Context(), env.Env, []string{"prune", "-keep", "1", host}); got != c.status {
			t.Errorf("%q: status %d, want %d", c.answer, got, c.status)
		}
		if talk := env.stderr.String(); !strings.HasPrefix(talk, "Delete 2 tags (") || !strings.Contains(talk, ") on "+host+"? [y/N] "+c.talk) {
			t.Errorf("%q: %s", c.answer, talk)
		}
		left := 0
		for range reg.Tags(t.Context(), "app", "") {
			left++
		}
		if left != c.left {
			t.Errorf("%q: %d tags are left, want %d", c.answer, left, c.left)
		}
	}
}

func pruneEnv(t *testing.T) testEnv {
	env := newTestEnv(nil)
	env.Home = t.TempDir()
	return env
}

// TestPruneMany counts what it takes to prune 1,000 repositories of 100 tags on
// a regctl serve, and wants the memory that it takes bounded.
func TestPruneMany(t *testing.T) {
	t.Parallel()
	repos := 100
	if os.Getenv("REGCTL_SCALE") != "" {
		repos = 1000
	}
	reg := ocitest.NewRegistry()
	for i := range 100 {
		if _, err := putImage(reg, "app", fmt.Sprint("1.", i), fmt.Sprint(i), ""); err != nil {
			t.Fatal(err)
		}
	}
	var requests atomic.Int64
	copies := &ocitest.Funcs{Registry: oneForAll{reg}}
	copies.OnRepos = func(context.Context, string) iter.Seq2[string, error] {
		return func(yield func(string, error) bool) {
			for n := range repos {
				if !yield(fmt.Sprintf("r%04d", n), nil) {
					return
				}
			}
		}
	}
	h := serve.NewHandler(copies, serve.Options{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	env := pruneEnv(t)
	env.Now = time.Now
	host := server.Listener.Addr().String()
	if got := Main(t.Context(), env.Env, []string{"prune", "-keep", "100", "--dry-run", host}); got != exitDone {
		t.Fatalf("status %d: %s", got, env.stderr)
	}
	want := fmt.Sprintf("nothing to delete; %d tags in %d repositories stay\n", 100*repos, repos)
	if got := env.stderr.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if n := requests.Load(); n > int64(repos+4) {
		t.Errorf("%d requests for %d repositories of which nothing goes", n, repos)
	}
}

// oneForAll has the same in every repository.
type oneForAll struct{ oci.Registry }

func (o oneForAll) TagDetails(ctx context.Context, _, after string) iter.Seq2[oci.TagDetail, error] {
	return o.Registry.TagDetails(ctx, "app", after)
}

// TestUnrecorded wants a run without a place to record refused before anything
// is deleted.
func TestUnrecorded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, home := range []string{"", filepath.Join(dir, "file")} {
		env := newTestEnv(http.DefaultTransport)
		env.Home = home
		if got := Main(t.Context(), env.Env, []string{"prune", "-keep", "1", "127.0.0.1:1"}); got != exitUsage {
			t.Errorf("home %q: status %d: %s", home, got, env.stderr)
		}
		if !bytes.Contains(env.stderr.Bytes(), []byte("--no-journal")) {
			t.Errorf("home %q: %s", home, env.stderr)
		}
	}
}

func TestReadInUse(t *testing.T) {
	t.Parallel()
	d := digest.FromString("x")
	text := `# What runs.
reg.lan:5000/team/app:1.0 reg.lan:5000/team/web@` + string(d) + `
docker-pullable://reg.lan:5000/team/db:2@` + string(d) + `
nginx docker.io/library/redis:7 quay.io/x/y:1 ` + string(d) + "\n"
	u, err := readInUse(strings.NewReader(text), "test", target{host: "reg.lan:5000"})
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"team/app:1.0", "team/web:" + string(d), "team/db:2", "team/db:" + string(d), "nginx:latest"} {
		repo, tag, _ := strings.Cut(ref, ":")
		if !u.has(repo, tag) {
			t.Errorf("%s is not protected", ref)
		}
	}
	if !u.has("any/other", string(d)) || u.others != 3 || u.has("team/web", "latest") || !slices.Equal(u.digests("team/db"), []oci.Digest{d}) {
		t.Errorf("got %+v", u)
	}
	for _, bad := range []string{"", "# nothing\n\n", "reg.lan:5000/UPPER:1", "reg.lan:5000/app@sha256:abc", "reg.lan:5000/app@"} {
		if _, err := readInUse(strings.NewReader(bad), "test", target{host: "reg.lan:5000"}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// TestReadInUseLong reads what kubectl prints of a large cluster, one line, and
// a host with the port that need not be said.
func TestReadInUseLong(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("quay.io/x/y:1 ", 20_000) + "reg.lan:443/app:1"
	u, err := readInUse(strings.NewReader(text), "test", target{host: "reg.lan"})
	if err != nil {
		t.Fatal(err)
	}
	if !u.has("app", "1") || u.here != 1 || u.others != 20_000 {
		t.Errorf("%d here, %d elsewhere", u.here, u.others)
	}
}

// TestPolicyNothing wants refused what says nothing where it should say
// something.
func TestPolicyNothing(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"rules:\n- repositories: [a]\n  keep:\n  older: 30d\n":                                         "line 3: keep is empty",
		"rules:\n- repositories: [a]\n  keep: 1\n  older: \"\"\n":                                      "line 4: older is empty",
		"rules:\n- repositories: [a]\n  keep: 1\n  exclude: [a, ~]\n":                                  "line 4: exclude is empty",
		"rules:\n- repositories: [a]\n  keep: 1\n---\nrules:\n- repositories: [b]\n  keep: 1\n":        "more than one document",
		"rules:\n- repositories: [a]\n  keep: 1\n  protect: []\n---\nnone: [of this\n":                 "more than one document",
		"rules:\n- repositories: [a]\n  keep: 1\n  protect: []\n- repositories: [\"**\"]\n  keep: 2\n": "",
	} {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readRules(path, time.Now()); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, args := range [][]string{
		{"-keep", "1", "-older", ""}, {"-keep", "1", "-protect", ""}, {"-keep", "1", "-exclude", ""}, {"-keep", "1", "-delete=false"},
	} {
		env := newTestEnv(http.DefaultTransport)
		if got := Main(t.Context(), env.Env, append([]string{"prune", "127.0.0.1:1"}, args...)); got != exitUsage {
			t.Errorf("%q: status %d: %s", args, got, env.stderr)
		}
	}
}

func TestParseAge(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{"30d": 720 * time.Hour, "2w": 336 * time.Hour, "12h": 12 * time.Hour, "0s": 0, "90m": 90 * time.Minute} {
		if got, err := parseAge(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "30", "-1d", "-1h", "1.5d", "d", "99999999d", "20000w"} {
		if got, err := parseAge(s); err == nil {
			t.Errorf("%s: %v", s, got)
		}
	}
}
