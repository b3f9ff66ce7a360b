package commands

import (
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// lsDirectory is a directory with images, listed like any registry.
func lsDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	reg, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	ocitest.Push(t, reg, ocitest.Content{
		"team/app": {
			Blobs: ocitest.Blobs{"layer": strings.Repeat("x", 5000)},
			Manifests: ocitest.Manifests{
				"one": {Layers: "layer", Platform: "linux/amd64", Created: "2026-11-18T12:00:00Z"},
				"two": {Layers: "", Platform: "linux/arm64/v8", Created: "2026-11-19T12:00:00Z"},
				"all": {Manifests: "one two"},
			},
			Tags: ocitest.Tags{"1.9": "one", "1.10": "two", "latest": "all"},
		},
		layout.Unnamed: {Manifests: ocitest.Manifests{"bare": {Platform: "linux/amd64"}}, Tags: ocitest.Tags{"bare": "bare"}},
	})
	return dir
}

func TestLsLong(t *testing.T) {
	t.Parallel()
	env := newTestEnv(network(t, ours()))
	// Asked for, it is a table in a pipe, too.
	env.run(t, "ls -l app", 0, `TAG     DIGEST               SIZE   CREATED     PUSHED      PLATFORMS
1.0     sha256:000000000000  31 MB  3 days ago  1 hour ago  -
latest  sha256:000000000000  999 B  unknown     unknown     -
`, "")
	env.run(t, "ls -l app --full --limit 1", 0, `NAME                    DIGEST               SIZE   CREATED     PUSHED      PLATFORMS
localhost:5000/app:1.0  sha256:000000000000  31 MB  3 days ago  1 hour ago  -
`, "")
	env.run(t, "ls -lq app", 0, "1.0\nlatest\n", "")
	env.run(t, "ls -l", 0, `REPOSITORY  TAGS  SIZE   PUSHED
app         2     31 MB  1 hour ago
`, "")
	env.run(t, "ls -la", 0, `REPOSITORY  TAG     DIGEST               SIZE   CREATED     PUSHED      PLATFORMS
app         1.0     sha256:000000000000  31 MB  3 days ago  1 hour ago  -
app         latest  sha256:000000000000  999 B  unknown     unknown     -
`, "")
	env.run(t, "ls -l app -o jsonl --limit 1", 0, `{"repo":"app","tag":"1.0","digest":"sha256:`+strings.Repeat("0", 63)+
		`1","size":31000000,"created":"2026-11-17T12:00:00Z","pushed":"2026-11-20T11:00:00Z","platforms":[]}`+"\n", "")
	env.run(t, "ls -l -o jsonl", 0, `{"repo":"app","size":31000999,"pushed":"2026-11-20T11:00:00Z","tags":2}`+"\n", "")
}

func TestLsDirectory(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	dir := lsDirectory(t)
	env.run(t, "ls oci:"+dir, 0, "bare\nteam/app:1.10\nteam/app:1.9\nteam/app:latest\n", "")
	env.run(t, "ls oci:"+dir+":team/app", 0, "1.10\n1.9\nlatest\n", "")
	env.run(t, "ls --full --limit 2 oci:"+dir, 0, "oci:"+dir+":bare\noci:"+dir+":team/app:1.10\n", "")
	env.run(t, "ls -l -o go-template={{.tag}}{{.platforms}} oci:"+dir+":team/app --include latest", 0, "latest[linux/amd64 linux/arm64/v8]\n", "")
	env.run(t, "ls oci:"+dir+"/nothing", 5, "", dir+"/nothing is no OCI image layout: it has no file oci-layout\n")
}

func TestLsSort(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	what := " oci:" + lsDirectory(t) + ":team/app"
	for flags, want := range map[string]string{
		"--sort name":             "1.9 1.10 latest",
		"--sort name --reverse":   "latest 1.10 1.9",
		"--sort semver":           "1.10 1.9 latest",
		"--sort semver --limit 1": "1.10",
		"--sort size":             "latest 1.9 1.10",
		"--sort size --reverse":   "1.10 1.9 latest",
		"--reverse --limit 2":     "latest 1.9",
	} {
		env.run(t, "ls "+flags+what, 0, strings.ReplaceAll(want, " ", "\n")+"\n", "")
	}
	for flags, want := range map[string]string{
		"--sort much":   "--sort \"much\": there is name, semver, time and size\n",
		"--sort semver": "--sort semver is about tags; name a repository, or list all of them: --all\n",
	} {
		env.run(t, "ls "+flags, 2, "", want)
	}
}

func TestSortings(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }
	items := []lsItem{
		{Tag: "built", detail: &oci.TagDetail{Created: day(5)}},
		{Tag: "pushed", detail: &oci.TagDetail{Created: day(1), Pushed: day(6)}},
		{Tag: "moved", detail: &oci.TagDetail{Created: day(7), Pushed: day(2)}},
		{Tag: "unknown", detail: &oci.TagDetail{}},
		{Repo: "repo", sum: &repoSum{pushed: day(3)}},
	}
	var got []string
	for item := range sorted(func(yield func(lsItem, error) bool) {
		for _, i := range items {
			yield(i, nil)
		}
	}, sortings(sortTime)) {
		got = append(got, item.Tag+item.Repo)
	}
	if s := strings.Join(got, " "); s != "pushed built repo moved unknown" {
		t.Errorf("newest first: %s", s)
	}
	versions := sortings(sortSemver)
	for _, pair := range [][2]string{{"1.10.0", "1.9.9"}, {"v2.0.0", "1.99.0"}, {"1.0.0", "1.0.0-rc1"}, {"0.1.0", "latest"}} {
		if a, b := (lsItem{Tag: pair[0]}), (lsItem{Tag: pair[1]}); versions(a, b) >= 0 || versions(b, a) <= 0 {
			t.Errorf("%s is not before %s", pair[0], pair[1])
		}
	}
}
