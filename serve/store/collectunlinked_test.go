package store_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

// What has lost its link only is whole again once that is back: its layers
// must not be gone by then, nor their links.
func TestLossOfWhatHasNoLink(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string][]string{
		"of a tag":                  {"live"},
		"of an index":               {"inner"},
		"of an index, and of those": {"inner", "kid", "live"},
		"of a tagged index":         {"outer", "index"},
		"of any":                    {"outer", "inner", "kid", "live", "index", "child1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.push(ocitest.Content{"app": {
				Blobs:     ocitest.Blobs{"k": "of the kid"},
				Manifests: ocitest.Manifests{"kid": {Layers: "k", Platform: "linux/arm"}, "inner": {Manifests: "kid"}, "outer": {Manifests: "inner"}},
				Tags:      ocitest.Tags{"outer": "outer"},
			}})
			for _, m := range lost {
				s.must(os.RemoveAll(filepath.Dir(s.revision("app", m))))
			}
			report := s.collect(s.disk())
			if len(report.Frozen)+len(report.Doubts) > 0 {
				t.Errorf("%+v", report)
			}
			s.has(false, "old", "l2", "oldlib")
			for _, m := range lost {
				s.write(s.revision("app", m), string(s.at[m]))
			}
			s.whole("app", "v1", "multi", "outer")
		})
	}
}

// A manifest with a byte too many still says what it named.
func TestLossOfWhatDamageNames(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.must(os.RemoveAll(s.path("repositories/app/_layers")))
	raw, err := os.ReadFile(s.data(s.at["live"]))
	s.must(err)
	s.write(s.data(s.at["live"]), string(raw)+"\n")
	s.frozen(s.collect(s.disk()), "app", "not its own")
	s.has(true, "live", "base", "l1")
}

// Nothing of what somebody has set aside goes, nor what it needs to be put
// back, when a server starts or a collection runs.
func TestLossOfWhatIsSetAside(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ from, to string }{
		{"app/_manifests", "app/_manifests.bak"},
		{"app/_manifests", "app/_manifests.deleted"},
		{"app/_layers", "app/_old"},
		{"app", "_app"},
		{"app", "lib/_app.deleted"},
	} {
		t.Run(test.to, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			here, there := s.path("repositories", test.from), s.path("repositories", test.to)
			s.must(os.Rename(here, there))
			collect(t, open(t, s.disk()).Repos(t.Context(), "")) // Its start is over.
			doubts(t, s.collect(s.disk()), test.to+" holds links")
			s.must(os.Rename(there, here))
			s.whole("app", "v1", "multi", "livesig")
		})
	}
}

// What is attached to an image stays with it, of whatever kind it is.
func TestLossOfReferrersOfAnUnknownKind(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.at["artifact"] = s.manifest("app", fmt.Sprintf(
		`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{"digest":%q,"size":1}],"subject":{"digest":%q,"size":1}}`, s.at["loose"], s.at["live"]))
	s.at["stray"] = s.manifest("app", fmt.Sprintf(
		`{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","blobs":[{"digest":%q,"size":1}]}`, s.at["l2"]))
	s.collect(s.disk())
	s.has(true, "artifact", "loose", "live")
	s.has(false, "stray", "l2")
}

// manifest writes one as registry:2 would have taken it.
func (s *shop) manifest(repo, raw string) oci.Digest {
	s.t.Helper()
	d := digest.FromString(raw)
	s.write(s.data(d), raw)
	s.write(s.path("repositories", repo, "_manifests/revisions/sha256", d.Encoded(), "link"), string(d))
	return d
}

// What repositories share goes from all of them when it goes from one.
func TestLossOfWhatRepositoriesShare(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"_layers", "_layers/sha256", "_manifests", "_manifests/revisions", "_manifests/revisions/sha256", "_manifests/tags"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			app := s.path("repositories/app", part)
			s.push(ocitest.Content{"zoo": {
				Blobs:     ocitest.Blobs{"zb": "of the zoo"},
				Manifests: ocitest.Manifests{"z": {Layers: "zb", Platform: "linux/arm"}},
				Tags:      ocitest.Tags{"z": "z"},
			}})
			zoo := s.path("repositories/zoo", part)
			s.must(os.CopyFS(app, os.DirFS(zoo)))
			s.must(os.RemoveAll(zoo))
			s.must(os.Symlink(app, zoo))
			doubts(t, s.collect(s.disk()), "share")
			s.whole("app", "v1", "multi")
			s.whole("zoo", "z")
		})
	}
}

// A client that comes back after a day is told how far its upload is: then it
// can go on with it.
func TestLossOfAnUploadThatIsAskedFor(t *testing.T) {
	t.Parallel()
	clock := newFakeTime()
	s := openAt(t, memAt(clock), clock, time.Time{})
	u, err := s.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err == nil {
		_, err = u.Write([]byte("half"))
	}
	if err := errors.Join(err, u.Close()); err != nil {
		t.Fatal(err)
	}
	o := gc.Options{Older: time.Hour, Uploads: 24 * time.Hour}
	for _, wait := range []time.Duration{25 * time.Hour, 50 * time.Minute} {
		clock.pass(wait)
		u, err := s.Upload(t.Context(), "app", u.ID(), oci.UploadOptions{})
		if err != nil || u.Size() != 4 {
			t.Fatal(err)
		}
		if err := u.Close(); err != nil {
			t.Fatal(err)
		}
		clock.pass(time.Minute)
		if r := mustCollect(t, s, o, false); len(r.Removed) > 0 {
			t.Errorf("%+v", r)
		}
	}
	clock.pass(25 * time.Hour)
	if r := mustCollect(t, s, o, false); r.Removed[gc.KindUpload].N != 1 {
		t.Errorf("asked for by nobody, it stays: %+v", r)
	}
}
