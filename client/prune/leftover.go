package prune

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// Summary is what a journal comes to.
type Summary struct {
	Time       time.Time
	Registries []string
	Tags       int
	Manifests  int  // That were deleted, not only untagged.
	Ended      bool // All that was recorded is done.
	Undone     bool
}

// Summarize reads the journal called id.
func Summarize(dir, id string) (Summary, error) {
	var s Summary
	f, err := OpenJournal(dir, id)
	if err != nil {
		return s, err
	}
	defer f.Close()
	err = ReadJournal(f, func(e Entry) error {
		if e.Registry != "" && !slices.Contains(s.Registries, e.Registry) {
			s.Registries = append(s.Registries, e.Registry)
		}
		switch {
		case e.Kind == KindRun:
			s.Time = e.Time
		case e.Kind == KindTag:
			s.Tags++
		case e.Kind == KindManifest && e.Goes:
			s.Manifests++
		case e.Kind == KindKept && e.Tag != "":
			s.Tags--
		case e.Kind == KindKept:
			s.Manifests--
		case e.Kind == KindEnd:
			s.Ended = true
		case e.Kind == KindUndone:
			s.Undone = true
		}
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("journal %s: %w", id, err)
	}
	return s, nil
}

// Left is what a journal knows of a registry that may still be there.
type Left struct {
	ID    string
	Known map[string][]oci.Digest // By repository.
	// Unfinished says that the run was cut short.
	Unfinished bool
}

// Leftovers finds in dir what runs on a registry have recorded and may have
// left: of those that were cut short what they wanted to delete, and if
// untagged is set of all of them what has lost a tag.
func Leftovers(dir, registry string, untagged bool) ([]Left, error) {
	ids, err := Journals(dir)
	if err != nil {
		return nil, err
	}
	var found []Left
	for _, id := range ids {
		if finished, err := endedWith(dir, id); err != nil {
			return nil, err
		} else if finished == KindUndone || finished == KindEnd && !untagged {
			continue
		}
		left, err := leftover(dir, id, registry, untagged)
		if err != nil {
			return nil, fmt.Errorf("journal %s: %w", id, err)
		}
		if len(left.Known) > 0 {
			found = append(found, left)
		}
	}
	return found, nil
}

// endedWith returns the kind of the last entry if it is a short one.
func endedWith(dir, id string) (string, error) {
	f, err := OpenJournal(dir, id)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 512
	if end, err := f.Seek(0, io.SeekEnd); err != nil {
		return "", err
	} else if _, err := f.Seek(max(0, end-most), io.SeekStart); err != nil {
		return "", err
	}
	tail, err := io.ReadAll(f)
	lines := bytes.Split(bytes.TrimSuffix(tail, []byte("\n")), []byte("\n"))
	var e Entry
	if json.Unmarshal(lines[len(lines)-1], &e) != nil {
		return "", err
	}
	return e.Kind, err
}

func leftover(dir, id, registry string, untagged bool) (Left, error) {
	left := Left{ID: id, Known: map[string][]oci.Digest{}, Unfinished: true}
	f, err := OpenJournal(dir, id)
	if err != nil {
		return left, err
	}
	defer f.Close()
	err = ReadJournal(f, func(e Entry) error {
		switch {
		case e.Kind == KindEnd:
			left.Unfinished = false
		case !sameHost(e.Registry, registry):
		case e.Kind == KindManifest && (e.Goes || untagged):
			left.Known[e.Repo] = append(left.Known[e.Repo], e.Digest)
		case e.Kind == KindKept && e.Tag == "":
			left.Known[e.Repo] = slices.DeleteFunc(left.Known[e.Repo], func(d oci.Digest) bool { return d == e.Digest })
		}
		return nil
	})
	return left, err
}

// sameHost compares addresses but for their schemes.
func sameHost(a, b string) bool {
	return strings.TrimPrefix(strings.TrimPrefix(a, "http://"), "https://") ==
		strings.TrimPrefix(strings.TrimPrefix(b, "http://"), "https://")
}
