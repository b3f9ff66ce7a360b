package gc

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

var update = flag.Bool("update", false, "write what Keep decides into testdata")

const day = 24 * time.Hour

func now() time.Time { return time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC) }

// TestGolden reads files of testdata/keep: a policy, tags, and after a line of
// dashes what becomes of them. -update writes the last part anew.
//
//	keep 2; older 30d; by semver; protect latest; only v1 v2
//	TAG IMAGE [created AGE] [pushed AGE]
func TestGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/keep/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			given, want, _ := strings.Cut(string(text), "----\n")
			policy, tags := parseGolden(t, given)
			got := "order: " + OrderUsed(tags, policy) + "\n"
			for _, d := range Keep(tags, policy) {
				action := "keep"
				if d.Delete {
					action = "delete"
				}
				got += fmt.Sprintf("%-6s %s %s\n", action, shorten(d.Tag), shorten(d.Reason))
			}
			if *update {
				if err := os.WriteFile(file, []byte(given+"----\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for range 5 { // The order of the tags is nobody's business.
				rand.Shuffle(len(tags), func(i, j int) { tags[i], tags[j] = tags[j], tags[i] })
				if again := Keep(tags, policy); !slices.Equal(again, Keep(tags, policy)) || names(again) != names(Keep(slices.Clone(tags), policy)) {
					t.Error("the decision depends on the order of the tags")
				}
			}
		})
	}
}

func names(decisions []Decision) string {
	var all []string
	for _, d := range decisions {
		all = append(all, fmt.Sprint(d.Tag, d.Delete, d.Reason, d.Rank))
	}
	return strings.Join(all, " ")
}

// digestOf makes a digest of a short name.
func digestOf(name string) oci.Digest {
	return oci.Digest("sha256:" + strings.Repeat(fmt.Sprintf("%02x", name[0]), 31) + fmt.Sprintf("%02x", name[len(name)-1]))
}

func shorten(s string) string {
	for c := byte('a'); c <= 'z'; c++ {
		d := digestOf(string(c))
		s = strings.ReplaceAll(s, string(d), "sha256:"+string(c))
		s = strings.ReplaceAll(s, strings.Replace(string(d), ":", "-", 1), "sha256-"+string(c))
	}
	return s
}

func parseGolden(t *testing.T, text string) (Policy, []Tagged) {
	t.Helper()
	p := Policy{Now: now()}
	first, rest, _ := strings.Cut(text, "\n")
	for clause := range strings.SplitSeq(first, ";") {
		word, value, _ := strings.Cut(strings.TrimSpace(clause), " ")
		switch word {
		case "keep":
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			p.Ranked, p.Keep = true, n
		case "older":
			p.Aged, p.Older = true, ageOf(t, value)
		case "by":
			p.By = Order(value)
		case "protect":
			p.Protected = func(t Tagged) string {
				if slices.Contains(strings.Fields(value), t.Tag) {
					return t.Tag
				}
				return ""
			}
		case "only":
			p.Considered = func(tag string) bool { return slices.Contains(strings.Fields(value), tag) }
		case "":
		default:
			t.Fatalf("clause %q", clause)
		}
	}
	var tags []Tagged
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if of, ok := strings.CutPrefix(f[0], "sha256-"); ok {
			f[0] = strings.Replace(string(digestOf(of[:1])), ":", "-", 1) + of[1:]
		}
		tag := Tagged{Tag: f[0], Digest: digestOf(f[1])}
		for i := 2; i+1 < len(f); i += 2 {
			date := now().Add(-ageOf(t, f[i+1]))
			if f[i+1] == "epoch" {
				date = time.Unix(0, 0)
			}
			switch f[i] {
			case "created":
				tag.Created = date
			case "pushed":
				tag.Pushed = date
			default:
				t.Fatalf("line %q", line)
			}
		}
		tags = append(tags, tag)
	}
	return p, tags
}

func ageOf(t *testing.T, s string) time.Duration {
	t.Helper()
	if s == "epoch" {
		return 0
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(s, "d")); err == nil {
		return time.Duration(n) * day
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestUnknownDates wants nothing deleted that would be kept if only one knew
// the dates: whatever the unknown ones are.
func TestUnknownDates(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		var tags []Tagged
		for i := range 2 + r.IntN(10) {
			tags = append(tags, Tagged{
				Tag: fmt.Sprint("v", i), Digest: digestOf(string(rune('a' + r.IntN(6)))), Created: now().Add(-time.Duration(r.IntN(100)) * day),
			})
		}
		byDigest := map[oci.Digest]time.Time{}
		for i := range tags { // One image was built once.
			if _, ok := byDigest[tags[i].Digest]; !ok {
				byDigest[tags[i].Digest] = tags[i].Created
			}
			tags[i].Created = byDigest[tags[i].Digest]
		}
		p := Policy{Ranked: true, Keep: r.IntN(4), Aged: r.IntN(2) == 0, Older: 30 * day, Now: now()}
		truth := map[string]bool{}
		for _, d := range Keep(tags, p) {
			truth[d.Tag] = d.Delete
		}
		hidden := slices.Clone(tags)
		for d := range byDigest {
			if r.IntN(3) == 0 {
				for i := range hidden {
					if hidden[i].Digest == d {
						hidden[i].Created = time.Unix(0, 0)
					}
				}
			}
		}
		for _, d := range Keep(hidden, p) {
			if d.Delete && !truth[d.Tag] {
				t.Fatalf("seed %d: %s is deleted for want of dates", seed, d.Tag)
			}
		}
	}
}

func TestNaturalCompare(t *testing.T) {
	t.Parallel()
	in := []string{"", "1", "01", "1.2", "1.9", "1.10", "1.10-rc", "2", "10", "a", "a1", "a01", "a2", "a10", "b", "v1.9.9", "v1.10.0"}
	for i, a := range in {
		for j, b := range in {
			got := NaturalCompare(a, b)
			if a == "01" || b == "01" || a == "a01" || b == "a01" {
				if (got == 0) != (a == b) || (got < 0) != (NaturalCompare(b, a) > 0) {
					t.Errorf("%q, %q: %d", a, b, got)
				}
				continue
			}
			if (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("%q, %q: %d", a, b, got)
			}
		}
	}
}

func FuzzNaturalCompare(f *testing.F) {
	f.Add("1.10", "1.9", "1.09")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if x, y := NaturalCompare(a, b), NaturalCompare(b, a); (x < 0) != (y > 0) || (x == 0) != (a == b) {
			t.Errorf("%q, %q: %d and %d", a, b, x, y)
		}
		if NaturalCompare(a, b) < 0 && NaturalCompare(b, c) < 0 && NaturalCompare(a, c) >= 0 {
			t.Errorf("%q < %q < %q, but not the first and the last", a, b, c)
		}
	})
}

func TestSubjectOf(t *testing.T) {
	t.Parallel()
	hex := strings.Repeat("0123456789abcdef", 4)
	for tag, want := range map[string]oci.Digest{
		"sha256-" + hex: oci.Digest("sha256:" + hex), "sha256-" + hex + ".sig": oci.Digest("sha256:" + hex),
		"sha512-" + hex + hex: oci.Digest("sha512:" + hex + hex), "sha256-" + hex[1:]: "", "sha256-": "", "latest": "", "sha-1234567": "",
		"sha256-" + hex + "-cache": "",
	} {
		if got, ok := SubjectOf(tag); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q, %v", tag, got, ok)
		}
	}
}

// TestLongSubject wants the tag of a sha512 digest, which is cut to the length
// of a tag, kept and not counted.
func TestLongSubject(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	long := "sha512-" + strings.Repeat("a", 121)
	tags := []Tagged{
		{Tag: long, Digest: "sha256:1", Created: now.Add(-time.Hour)},
		{Tag: "1", Digest: "sha256:2", Created: now.Add(-2 * time.Hour)},
		{Tag: long[:127] + "x", Digest: "sha256:3", Created: now.Add(-3 * time.Hour)},
	}
	for _, d := range Keep(tags, Policy{Ranked: true, Keep: 1, Now: now}) {
		if d.Delete != (d.Digest == "sha256:3") || d.Tag == long && !strings.HasPrefix(d.Reason, WithSubject) {
			t.Errorf("%+v", d)
		}
	}
}
