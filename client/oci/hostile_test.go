package oci_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// filled is a body of the greatest size: head, as many pieces as fit, tail. In
// a piece, # is its number.
func filled(head, piece, tail string) []byte {
	var b strings.Builder
	b.Write(manifest(head))
	piece = string(manifest(piece))
	if !strings.Contains(piece, "#") {
		b.WriteString(strings.Repeat(piece, (oci.MaxManifest-b.Len()-len(tail))/len(piece)))
	}
	for i := 0; ; i++ {
		next := strings.ReplaceAll(piece, "#", fmt.Sprintf("%x", i))
		if b.Len()+len(next)+len(tail) > oci.MaxManifest {
			return []byte(strings.TrimSuffix(b.String(), ",") + tail)
		}
		b.WriteString(next)
	}
}

// hostile are the bodies of the greatest size that cost most to look at.
func hostile() map[string][]byte {
	const config, sub = `{"schemaVersion":2,"config":{"digest":"@A"},`, `{"digest":"@B",`
	return map[string][]byte{
		"empty layers":            filled(config+`"layers":[`, `{},`, `]}`),
		"null layers":             filled(config+`"layers":[`, `null,`, `]}`),
		"empty manifests":         filled(`{"schemaVersion":2,"manifests":[`, `{},`, `]}`),
		"annotations":             filled(config+`"annotations":{`, `"#":"",`, `}}`),
		"annotations of a layer":  filled(config+`"layers":[`+sub+`"annotations":{`, `"#":"",`, `}}]}`),
		"layers with annotations": filled(config+`"layers":[`, sub+`"annotations":{"":""}},`, `]}`),
		"urls":                    filled(config+`"layers":[`+sub+`"urls":[`, `"",`, `]}]}`),
		"nested arrays":           filled(config+`"x":`, `[`, ``),
		"closed nested arrays":    []byte(`{"x":` + strings.Repeat("[", oci.MaxManifest/2-10) + strings.Repeat("]", oci.MaxManifest/2-10) + `}`),
		"shallow nested arrays":   filled(config+`"x":[`, strings.Repeat("[", 9000)+strings.Repeat("]", 9000)+`,`, `]}`),
		"numbers":                 filled(config+`"x":[`, `1,`, `]}`),
		"objects":                 filled(config+`"x":[`, `{"a":1},`, `]}`),
		"fields":                  filled(config, `"#":1,`, `,"":1}`),
		"fields to unescape":      filled(config, `"\n#":1,`, `,"":1}`),
		"fields in capitals":      filled(config+`"x":[`, `{"AAAAAAAAAAAAAAAA":1},`, `]}`),
		"one long field":          filled(config+`"`, `x`, `":1}`),
		"one long type":           filled(`{"schemaVersion":2,"mediaType":"`, `x`, `"}`),
		"one long digest":         filled(`{"schemaVersion":2,"config":{"digest":"`, `x`, `"}}`),
		"one long number":         filled(`{"schemaVersion":`, `1`, `}`),
		"a sparse index":          filled(`{"schemaVersion":2,"manifests":[`, `{"digest":"@A"},`, `]}`),
		"an index":                bigIndex(),
		"no JSON":                 filled(config+`"layers":[`, `{},`, ``),
	}
}

// bigIndex is the largest index that is meant.
func bigIndex() []byte {
	return filled(`{"schemaVersion":2,"manifests":[`,
		`{"mediaType":"`+oci.MediaTypeManifest+`","digest":"@A","size":1234,"platform":{"architecture":"amd64","os":"linux"}},`, `]}`)
}

// Whatever is in a body of 4 MiB, to look at it costs a few times its size,
// and no more than a moment.
func TestHostileManifestsAreCheap(t *testing.T) {
	const most = 40 << 20
	for name, raw := range hostile() {
		for what, do := range map[string]func(){
			"ParseManifest": func() { _, _ = oci.ParseManifest("", raw) },
			"MediaTypeOf":   func() { oci.MediaTypeOf(raw) },
		} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			do()
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if cost := after.TotalAlloc - before.TotalAlloc; cost > most {
				t.Errorf("%s of %s allocates %d MiB for %d bytes", what, name, cost>>20, len(raw))
			}
			if took > 5*time.Second { // Some 50 ms, but for a race detector on a busy machine.
				t.Errorf("%s of %s takes %s", what, name, took)
			}
		}
	}
}

func TestLargestIndexIsAccepted(t *testing.T) {
	if g, err := oci.ParseManifest("", bigIndex()); err != nil || len(g.Manifests) < 10000 {
		t.Error(err)
	}
}

// An index may name as many manifests as fit into 4 MiB.
func TestDigestsOfALargeIndex(t *testing.T) {
	const n = 46_000
	var b strings.Builder
	b.WriteString(`{"schemaVersion":2,"manifests":[`)
	for i := range n {
		fmt.Fprintf(&b, `{"digest":"sha256:%064x"},`, i)
	}
	raw := []byte(strings.TrimSuffix(b.String(), ",") + "]}")
	g, err := oci.ParseManifest("", raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, digests := range map[string]func() []oci.Digest{
		"Digests":   g.Digests,
		"DigestsIn": func() []oci.Digest { return oci.DigestsIn(raw) },
	} {
		start := time.Now()
		got := digests()
		if took := time.Since(start); took > 2*time.Second { // Quadratic, it is more without a race detector.
			t.Errorf("%s takes %s", name, took)
		}
		if len(got) != n || got[n-1] != g.Manifests[n-1].Digest {
			t.Errorf("%s finds %d", name, len(got))
		}
	}
}

func BenchmarkParseManifest(b *testing.B) {
	for name, raw := range hostile() {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = oci.ParseManifest("", raw)
			}
		})
	}
}

func TestDigestsInFindsAllThatLooksLikeOne(t *testing.T) {
	long := "sha512:" + strings.Repeat("0a", 64)
	for raw, want := range map[string][]oci.Digest{
		"":                                    nil,
		"shasha256:sha512:":                   nil,
		sumA[:len(sumA)-1]:                    nil,
		sumA[:len(sumA)-1] + "A":              nil,
		sumA + "00" + sumB + `","` + sumA:     {sumA, sumB},
		`{"x":"` + long + `sha` + sumC + `"}`: {oci.Digest(long), sumC},
	} {
		if got := oci.DigestsIn([]byte(raw)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}
