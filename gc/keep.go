// Package gc decides what may go. It is pure: it sees names, digests and
// times, never a registry or a disk, and gives a reason for all it decides.
//
// What it is in doubt about stays.
package gc

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/regctl/regctl/client/oci"
)

// Tagged is a tag with what is known of it. Zero times are unknown.
type Tagged struct {
	Tag     string
	Digest  oci.Digest
	Created time.Time // When the image was built.
	Pushed  time.Time // When the tag was last moved.
}

// Order is what makes one image newer than another.
type Order string

// The orders. [ByTime] is that of pushes if all of them are known, else that
// of builds.
const (
	ByTime   Order = "time"
	BySemver Order = "semver" // Tags that are no versions are kept.
	ByName   Order = "name"   // Natural order: 1.10 is after 1.9.
)

// Policy says which tags of a repository may go. A tag goes only if it breaks
// every rule that is on, and nothing else keeps it. Without a rule nothing
// goes.
type Policy struct {
	// Ranked turns on the rule that the Keep newest images stay. Images are
	// digests: tags of one image count once.
	Ranked bool
	Keep   int
	// Aged turns on the rule that tags stay until they are older than Older.
	Aged  bool
	Older time.Duration

	By  Order     // Empty: ByTime.
	Now time.Time // What ages are told from.

	// Considered tells whether the policy is about a tag; others stay and do
	// not count. Nil: it is about all.
	Considered func(tag string) bool
	// Protected tells why a tag must stay, "" if it need not. Nil: none must.
	// Such a tag does not count either: "latest" is no newer than what it
	// points to. The image counts by its other tags.
	Protected func(Tagged) (why string)
}

// Decision is what becomes of a tag, and why.
type Decision struct {
	Tagged
	Delete bool
	Reason string
	Rank   int       // Of the image, 1 is the newest; 0: it has none.
	Date   time.Time // What its age is told from; zero: unknown.
}

// The reasons of [Keep]. [Protected] stands before what a Policy says, and
// [WithSubject] before a digest.
const (
	NoRule        = "no-rule"
	NotConsidered = "not-included"
	KeptByRank    = "kept-by-rank"
	Younger       = "younger"
	DateUnknown   = "date-unknown" // The age or the rank cannot be told.
	NotSemver     = "not-semver"
	Protected     = "protected:"
	WithSubject   = "with-subject:" // It lives and dies with this digest.
	BeyondKeep    = "beyond-keep"
	OlderThan     = "older-than"
	BeyondBoth    = BeyondKeep + "," + OlderThan
)

// clockSkew is how far ahead of ours another clock may be.
const clockSkew = 10 * time.Minute

// firstImage is before every image: no docker had been shown to anybody. What
// is dated before it has no date at all, such as those that were built to be
// reproduced.
func firstImage() time.Time { return time.Date(2013, time.March, 20, 0, 0, 0, 0, time.UTC) }

// Keep decides about every tag of a repository, the newest image first. Its
// decision depends on nothing but its arguments, not on their order either.
func Keep(tags []Tagged, p Policy) []Decision {
	k := keeper{Policy: p, images: map[oci.Digest]*image{}}
	k.gather(tags)
	k.rank()
	decisions := make([]Decision, 0, len(tags))
	for _, t := range tags {
		decisions = append(decisions, k.decide(t))
	}
	slices.SortFunc(decisions, func(a, b Decision) int {
		if c := k.newestFirst(a, b); c != 0 {
			return c
		}
		return NaturalCompare(b.Tag, a.Tag)
	})
	return decisions
}

// OrderUsed tells by what the newest tags would be told: "pushed", "created",
// "semver" or "name".
func OrderUsed(tags []Tagged, p Policy) string {
	if p.By == BySemver || p.By == ByName {
		return string(p.By)
	}
	k := keeper{Policy: p, images: map[oci.Digest]*image{}}
	k.gather(tags)
	if k.byPush {
		return "pushed"
	}
	return "created"
}

// image is what the tags of one digest have in common.
type image struct {
	date time.Time // Zero: unknown.
	name string    // The highest of its tags, in the order that counts.
	rank int
}

type keeper struct {
	Policy
	byPush bool
	images map[oci.Digest]*image
}

// ranks tells whether a tag takes part in the ranking.
func (k *keeper) ranks(t Tagged) bool {
	return subjectIn(t.Tag) == "" && (k.Considered == nil || k.Considered(t.Tag)) && k.protects(t) == "" &&
		(k.By != BySemver || isVersion(t.Tag))
}

// protects tells why t must stay; "" if it need not.
func (k *keeper) protects(t Tagged) string {
	if k.Protected == nil {
		return ""
	}
	return k.Protected(t)
}

// gather finds out what there is to rank, and by which dates.
func (k *keeper) gather(tags []Tagged) {
	k.byPush = true
	for _, t := range tags {
		if k.ranks(t) && !k.known(t.Pushed) {
			k.byPush = false
		}
	}
	for _, t := range tags {
		if !k.ranks(t) {
			continue
		}
		i := k.images[t.Digest]
		if i == nil {
			i = &image{name: t.Tag}
			k.images[t.Digest] = i
		}
		if k.compareNames(t.Tag, i.name) > 0 {
			i.name = t.Tag
		}
		if d := k.rankDate(t); d.After(i.date) {
			i.date = d
		}
	}
}

func (k *keeper) known(t time.Time) bool {
	return !t.Before(firstImage()) && !t.After(k.Now.Add(clockSkew))
}

// rankDate is the date by which t is ranked, of the kind that all are ranked
// by; zero if it is unknown.
func (k *keeper) rankDate(t Tagged) time.Time {
	d := t.Created
	if k.byPush {
		d = t.Pushed
	}
	if !k.known(d) {
		return time.Time{}
	}
	return d
}

// age is the date that the age of t is told from: the latest that is known,
// for a tag that was moved yesterday is young, whatever it points to. A date
// in the future makes it unknown.
func (k *keeper) age(t Tagged) time.Time {
	latest := t.Created
	if t.Pushed.After(latest) {
		latest = t.Pushed
	}
	if !k.known(latest) {
		return time.Time{}
	}
	return latest
}

// rank numbers the images. By time, one without a date has no rank and takes
// none: whatever its date may be, it can only push the others further back.
func (k *keeper) rank() {
	var list []*image
	for _, i := range k.images {
		if k.byName() || !i.date.IsZero() {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *image) int { return k.compareImages(b, a) })
	for n, i := range list {
		i.rank = n + 1
	}
}

func (k *keeper) byName() bool { return k.By == BySemver || k.By == ByName }

// compareImages is a strict order: no two images have the same name.
func (k *keeper) compareImages(a, b *image) int {
	if !k.byName() {
		if c := a.date.Compare(b.date); c != 0 {
			return c
		}
	}
	return k.compareNames(a.name, b.name)
}

func (k *keeper) compareNames(a, b string) int {
	if k.By == BySemver {
		if c := semver.Compare(version(a), version(b)); c != 0 {
			return c
		}
	}
	return NaturalCompare(a, b)
}

// newestFirst orders by rank; what has none comes last.
func (k *keeper) newestFirst(a, b Decision) int {
	switch {
	case a.Rank == b.Rank:
		return 0
	case a.Rank == 0:
		return 1
	case b.Rank == 0:
		return -1
	}
	return a.Rank - b.Rank
}

func (k *keeper) decide(t Tagged) Decision {
	d := Decision{Tagged: t, Date: k.age(t)}
	if i := k.images[t.Digest]; i != nil && k.ranks(t) {
		d.Rank = i.rank
	}
	d.Delete, d.Reason = k.judge(t, d)
	return d
}

// judge goes through what keeps a tag. The first that does is the reason.
func (k *keeper) judge(t Tagged, d Decision) (bool, string) {
	if subject := subjectIn(t.Tag); subject != "" {
		return false, WithSubject + subject
	}
	if k.Considered != nil && !k.Considered(t.Tag) {
		return false, NotConsidered
	}
	if why := k.protects(t); why != "" {
		return false, Protected + why
	}
	switch {
	case !k.Ranked && !k.Aged:
		return false, NoRule
	case k.By == BySemver && !isVersion(t.Tag):
		return false, NotSemver
	case k.Ranked && d.Rank > 0 && d.Rank <= k.Keep:
		return false, KeptByRank
	case k.Ranked && d.Rank == 0, k.Aged && d.Date.IsZero():
		return false, DateUnknown
	case k.Aged && k.Now.Sub(d.Date) <= k.Older:
		return false, Younger
	case k.Ranked && k.Aged:
		return true, BeyondBoth
	case k.Ranked:
		return true, BeyondKeep
	}
	return true, OlderThan
}

// version is a tag as semver reads it: v1.2.3, 1.2.3, 1.2 and 1 alike.
func version(tag string) string {
	if strings.HasPrefix(tag, "v") {
		return tag
	}
	return "v" + tag
}

func isVersion(tag string) bool { return semver.IsValid(version(tag)) }

// SubjectOf returns the digest that a tag such as sha256-<64 digits> or
// sha256-<64 digits>.sig is named after. Signatures and lists of referrers are
// kept under such tags where a registry has no better place.
func SubjectOf(tag string) (oci.Digest, bool) {
	algorithm, rest, ok := strings.Cut(tag, "-")
	if !ok {
		return "", false
	}
	hex, _, _ := strings.Cut(rest, ".")
	d, err := oci.ParseDigest(fmt.Sprintf("%s:%s", algorithm, hex))
	return d, err == nil
}

// subjectIn is SubjectOf, and the beginning of a digest that is too long for
// the name of a tag: of that nobody can tell whether it is there.
func subjectIn(tag string) string {
	if d, ok := SubjectOf(tag); ok {
		return string(d)
	}
	const longest = 128
	hex, ok := strings.CutPrefix(tag, "sha512-")
	if ok && len(tag) == longest && strings.Trim(hex, "0123456789abcdef") == "" {
		return "sha512:" + hex
	}
	return ""
}

// NaturalCompare orders names as people do: digits by the number they make, so
// that 1.9 is before 1.10, all else bytewise. It is 0 only for equal names.
func NaturalCompare(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		n, m := digits(x), digits(y)
		if n > 0 && m > 0 {
			if c := compareNumbers(x[:n], y[:m]); c != 0 {
				return c
			}
			x, y = x[n:], y[m:]
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	if c := len(x) - len(y); c != 0 {
		return c
	}
	return strings.Compare(a, b) // 01 and 1.
}

func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

func compareNumbers(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if c := len(a) - len(b); c != 0 {
		return c
	}
	return strings.Compare(a, b)
}
