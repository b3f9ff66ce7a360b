package prune

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

// three is a repository whose tag 1 and 2 go and whose 3 stays.
func three(t *testing.T) (reg oci.Registry, digests map[string]oci.Digest, dir string) {
	t.Helper()
	reg, dir = ocitest.NewRegistry(), t.TempDir()
	digests = ocitest.Push(t, reg, ocitest.Content{repo: {
		Blobs:     ocitest.Blobs{"l1": "1", "l2": "2"},
		Manifests: ocitest.Manifests{"a": {Layers: "l1"}, "b": {Layers: "l2"}, "multi": {Manifests: "b"}, "c": {Platform: "linux/arm64"}},
		Tags:      ocitest.Tags{"1": "a", "2": "multi", "3": "c"},
	}})
	execute(t, reg, plan(t, reg, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{}), dir, RunOptions{})
	return reg, digests, dir
}

func states(undone []Undone) string {
	var all []string
	for _, u := range undone {
		if u.Tag != "" {
			all = append(all, u.Tag+" "+u.State)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// TestUndoGone wants an image told whose blob is gone, with the index that
// names it, and the others restored.
func TestUndoGone(t *testing.T) {
	t.Parallel()
	reg, digests, dir := three(t)
	if err := reg.DeleteBlob(t.Context(), repo, digests["l2"]); err != nil {
		t.Fatal(err)
	}
	if got := states(undo(t, reg, dir)); got != "1 restored, 2 failed" {
		t.Errorf("got %s", got)
	}
	if _, err := reg.Resolve(t.Context(), repo, "2"); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("a broken image has a tag: %v", err)
	}
	ocitest.PushBlob(t, reg, repo, "2")
	if got := states(undo(t, reg, dir)); got != "1 there, 2 restored" {
		t.Errorf("again: %s", got)
	}
}

// TestUndoConflict wants a tag left alone that somebody has moved since.
func TestUndoConflict(t *testing.T) {
	t.Parallel()
	reg, digests, dir := three(t)
	m, err := reg.Manifest(t.Context(), repo, "3")
	if err != nil {
		t.Fatal(err)
	}
	ocitest.PushManifest(t, reg, repo, string(m.Raw), "1")
	if got := states(undo(t, reg, dir)); got != "1 conflict, 2 restored" {
		t.Errorf("got %s", got)
	}
	f, err := OpenJournal(dir, "20261120-0312")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	open := func(string) (oci.Registry, error) { return reg, nil }
	undone, err := Undo(t.Context(), open, f, UndoOptions{Force: true, DryRun: true})
	if err != nil || states(undone) != "1 restored, 2 there" {
		t.Errorf("dry: %s, %v", states(undone), err)
	}
	if d, err := reg.Resolve(t.Context(), repo, "1"); err != nil || d.Digest != digests["c"] {
		t.Errorf("a dry run has moved the tag: %v, %v", d, err)
	}
	if undone, err = Undo(t.Context(), open, f, UndoOptions{Force: true}); err != nil || states(undone) != "1 restored, 2 there" {
		t.Errorf("force: %s, %v", states(undone), err)
	}
	if d, err := reg.Resolve(t.Context(), repo, "1"); err != nil || d.Digest != digests["a"] {
		t.Errorf("the tag is not back: %v, %v", d, err)
	}
}

// TestUndoSkipped wants nothing put back that was kept, and has gone since by
// somebody else's hand.
func TestUndoSkipped(t *testing.T) {
	t.Parallel()
	reg, dir := ocitest.NewRegistry(), t.TempDir()
	ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "c": {Platform: "linux/arm64"}}, Tags: ocitest.Tags{"1": "a", "2": "a", "3": "c"},
	}})
	moving := &ocitest.Funcs{Registry: reg}
	moving.OnDeleteTag = func(ctx context.Context, repo, tag string, was oci.Digest) error {
		if tag == "1" {
			return oci.TagMoved
		}
		return reg.DeleteTag(ctx, repo, tag, was)
	}
	p := plan(t, reg, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{})
	execute(t, moving, p, dir, RunOptions{})
	if err := reg.DeleteTag(t.Context(), repo, "1", ""); err != nil {
		t.Fatal(err)
	}
	if got := states(undo(t, reg, dir)); got != "2 restored" {
		t.Errorf("got %s", got)
	}
}

// TestJournal wants a file that only its owner can read, that a cut last line
// does not spoil, and that goes if nothing was recorded.
func TestJournal(t *testing.T) {
	t.Parallel()
	_, _, dir := three(t)
	path := filepath.Join(dir, "20261120-0312"+journalSuffix)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) {
		entries := 0
		if err := ReadJournal(strings.NewReader(string(whole[:n])), func(Entry) error { entries++; return nil }); err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if want := strings.Count(string(whole[:n]), "\n"); entries != want {
			t.Fatalf("cut at %d: %d entries, want %d", n, entries, want)
		}
	}
	for _, wantID := range []string{"20261120-0312-2", "20261120-0312-2"} {
		j, err := CreateJournal(dir, time.Date(2026, 11, 20, 3, 12, 0, 0, time.UTC))
		if err != nil || j.ID() != wantID {
			t.Fatal(j.ID(), err)
		}
		if err := j.Close(true); err != nil {
			t.Fatal(err)
		}
	}
	if ids, err := Journals(dir); err != nil || len(ids) != 1 {
		t.Errorf("%v, %v", ids, err)
	}
	if _, err := OpenJournal(dir, "../x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a journal elsewhere: %v", err)
	}
	s, err := Summarize(dir, "20261120-0312")
	if err != nil || s.Tags != 2 || s.Manifests != 3 || !s.Ended || s.Undone {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestMarkCut wants a journal marked whose last line was cut, and read without
// that line; one that is broken elsewhere is not read.
func TestMarkCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for text, fine := range map[string]bool{
		`{"kind":"run"}` + "\n" + `{"kind":"ta`:                           true,
		`{"kind":"run"}` + "\n" + `{"ki` + "\n" + `{"kind":"tag"}` + "\n": false,
	} {
		if err := os.WriteFile(filepath.Join(dir, "x"+journalSuffix), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Mark(dir, "x", KindEnd, time.Now()); err != nil {
			t.Error(err)
		}
		if s, err := Summarize(dir, "x"); (err == nil) != fine || s.Ended != fine {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

// TestUntagged wants found what earlier runs have untagged, and signatures
// whose subject is gone; nothing of it without being asked.
func TestUntagged(t *testing.T) {
	t.Parallel()
	reg, dir := ocitest.NewRegistry(), t.TempDir()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "gone": {Platform: "a/b"}, "sig": {Platform: "s/g"}, "c": {Platform: "linux/arm64"}},
		Tags:      ocitest.Tags{"1": "a", "3": "c"},
	}})
	m, err := reg.Manifest(t.Context(), repo, string(digests["sig"]))
	if err != nil {
		t.Fatal(err)
	}
	signature := follower(digests["gone"]) + ".sig"
	ocitest.PushManifest(t, reg, repo, string(m.Raw), signature)
	if err := reg.DeleteManifest(t.Context(), repo, digests["gone"]); err != nil {
		t.Fatal(err)
	}
	untag, err := PlanUntag(t.Context(), reg, repo, "1")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, reg, untag, dir, RunOptions{})
	policy := gc.Policy{Ranked: true, Keep: 5, By: gc.ByName, Now: time.Now()}
	for _, asked := range []bool{false, true} {
		lefts, err := Leftovers(dir, "http://registry.test", asked)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Untagged: asked}
		for _, left := range lefts {
			o.Known = append(o.Known, left.Known[repo]...)
		}
		p := plan(t, reg, policy, o)
		if !asked {
			if !p.Empty() {
				t.Errorf("nobody asked for %+v", p)
			}
			continue
		}
		execute(t, reg, p, dir, RunOptions{})
	}
	for _, name := range []string{"a", "sig"} {
		if _, err := reg.Resolve(t.Context(), repo, string(digests[name])); !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := reg.Resolve(t.Context(), repo, "3"); err != nil {
		t.Error(err)
	}
}

// TestNeeded wants an index kept of which somebody runs a child.
func TestNeeded(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"b": {}, "multi": {Manifests: "b"}, "old": {Platform: "o/l"}, "c": {Platform: "linux/arm64"}},
		Tags:      ocitest.Tags{"1": "old", "2": "multi", "3": "c"},
	}})
	p := plan(t, reg, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{Needed: []oci.Digest{digests["b"]}})
	execute(t, reg, p, t.TempDir(), RunOptions{})
	for tag, want := range map[string]bool{"1": false, "2": true, "3": true} {
		if _, err := reg.Resolve(t.Context(), repo, tag); (err == nil) != want {
			t.Errorf("%s: %v", tag, err)
		}
	}
	if _, err := reg.Resolve(t.Context(), repo, string(digests["b"])); err != nil {
		t.Error(err)
	}
}

// TestPlanDigest wants everything told that needs a manifest.
func TestPlanDigest(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{
			"a": {}, "multi": {Manifests: "a"}, "sbom": {Subject: "a", ArtifactType: "a/b"}, "free": {Platform: "f/r"},
		},
		Tags: ocitest.Tags{"1": "a", "2": "multi", "s": "sbom"},
	}})
	for name, want := range map[string]string{
		"a":    "tag 1|index " + string(digests["multi"]) + " (2)",
		"sbom": "tag s|subject " + string(digests["a"]) + " (1)",
		"free": "",
	} {
		_, needs, err := PlanDigest(t.Context(), reg, repo, digests[name], Options{})
		if got := strings.Join(needs, "|"); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
	if _, _, err := PlanDigest(t.Context(), reg, repo, oci.Digest("sha256:"+strings.Repeat("0", 64)), Options{}); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("got %v", err)
	}
}
