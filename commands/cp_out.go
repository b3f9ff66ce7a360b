package commands

import (
	"errors"
	"fmt"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/transfer"
)

// cpItem is a tag that was copied, or an image without one, and its JSON form.
type cpItem struct {
	Name   string         `json:"name"` // HOST/REPO:TAG, or HOST/REPO.
	From   string         `json:"from"`
	Digest oci.Digest     `json:"digest,omitempty"`
	Whole  oci.Digest     `json:"whole,omitempty"` // Of all platforms at the source, if some were chosen.
	Action transfer.State `json:"action"`
	Error  string         `json:"error,omitempty"`
}

func (i cpItem) plain() string { return i.Name + "@" + string(i.Digest) }

// items are those of one image: one for each of its tags.
func (c *copier) items(image *transfer.Image) []cpItem {
	item := cpItem{
		From: c.src.image(image.SrcRepo, image.SrcRef), Digest: image.Manifest.Digest, Whole: image.Whole, Action: image.State,
	}
	if image.Err != nil {
		item.Error = image.Err.Error()
	}
	tags := image.Tags
	if len(tags) == 0 {
		tags = []string{""}
	}
	var items []cpItem
	for _, tag := range tags {
		item.Name = c.dst.image(image.DstRepo, tag)
		items = append(items, item)
	}
	return items
}

// image is the name of one in the registry of t, for other programs, too: the
// scheme is not part of it.
func (t target) image(repo, ref string) string {
	if t.layout != "" {
		return target{layout: t.layout, repo: repo, ref: ref}.String()
	}
	name, separator := t.host+"/"+repo, ":"
	if oci.IsDigest(ref) {
		separator = "@"
	}
	if ref == "" {
		return name
	}
	return name + separator + ref
}

// print lists images on stdout. People are shown those that are there now, or
// that would be copied; programs all.
func (c *copier) print(images []transfer.Image, planned bool) error {
	if c.o.Quiet && c.format.name == "" {
		return nil
	}
	var columns []string
	if planned && c.env.Terminal {
		columns = []string{"NAME", "DIGEST", "ACTION"}
	}
	p := newPrinter(c.env.Stdout, c.format, "regctl.cp/v1", c.dst.address(), columns)
	for i := range images {
		if c.format.name == "" && (images[i].Err != nil || planned && images[i].State == transfer.There) {
			continue
		}
		for _, item := range c.items(&images[i]) {
			cells := []string{item.Name, shortDigest(item.Digest), string(item.Action)}
			if err := p.add(item, item.plain(), cells); err != nil {
				return err
			}
		}
	}
	return p.end()
}

// show prints a plan that is not executed.
func (c *copier) show(plan *transfer.Plan) error {
	if err := c.print(plan.Images, true); err != nil {
		return err
	}
	n, failed := tally(plan.Images)
	if !c.o.Quiet {
		c.sayNarrowed(plan.Images)
		c.env.say("%s", would(n, plan))
	}
	if err := c.failure(plan.Images, failed); err != nil || n == 0 || !c.o.ExitCode {
		return err
	}
	return &ExitError{Status: exitWouldChange}
}

// would is what a plan for n images that are not all there comes to.
func would(n int, plan *transfer.Plan) string {
	of := fmt.Sprintf("%s of %d", counted(n, "image"), len(plan.Images))
	if n > 0 && len(plan.Manifests) == 0 {
		return "would tag " + of + ", which are there already"
	}
	return fmt.Sprintf("would copy %s: %s and %s, at most %s", of,
		counted(len(plan.Blobs), "blob"), counted(len(plan.Manifests), "manifest"), humanSize(plan.Bytes))
}

// tally counts images that are not there yet, and those that failed.
func tally(images []transfer.Image) (changed, failed int) {
	for _, image := range images {
		switch image.State {
		case transfer.Copy, transfer.Retag:
			changed++
		case transfer.Failed:
			failed++
		}
	}
	return changed, failed
}

// summary is the last line of a copy.
func (c *copier) summary(r *transfer.Report, seconds float64) string {
	changed, _ := tally(r.Images)
	calls := counted(int(r.Calls), "request")
	bytes := fmt.Sprintf("%s in %.1f s, %s already there", humanSize(r.Moved), seconds, humanSize(r.There))
	switch {
	case len(r.Images) == 0:
		return "no tag to copy"
	case changed == 0 && c.o.All:
		return fmt.Sprintf("%s already there (%s)", counted(len(r.Images), "tag"), calls)
	case changed == 0:
		return "already there (" + calls + ")"
	case c.o.All:
		return fmt.Sprintf("%d of %s, %s", changed, counted(len(r.Images), "tag"), bytes)
	case r.Manifests == 0:
		return "tagged what is already there (" + calls + ")"
	}
	return counted(r.Images[0].Platforms, "platform") + ", " + bytes
}

// sayNarrowed says that a choice of platforms has changed digests.
func (c *copier) sayNarrowed(images []transfer.Image) {
	n := 0
	for _, image := range images {
		if image.Whole != "" {
			n++
		}
	}
	switch {
	case n == 0:
	case len(images) == 1:
		c.env.say("only %s: the digest is %s, of all platforms it is %s", strings.Join(c.o.Platforms, ", "),
			shortDigest(images[0].Manifest.Digest), shortDigest(images[0].Whole))
	default:
		c.env.say("only %s: %s another digest than with all platforms", strings.Join(c.o.Platforms, ", "), have(n))
	}
}

func have(tags int) string {
	if tags == 1 {
		return "1 tag has"
	}
	return fmt.Sprintf("%d tags have", tags)
}

// explain adds to err what to try next on the side where it came up.
func (c *copier) explain(err error) error {
	var at *transfer.Error
	errors.As(err, &at)
	switch {
	case at != nil && at.Side == transfer.Destination:
		return c.dst.hint(err, "regctl cp "+c.o.Src, c.o.Dst)
	case at != nil && at.Op != transfer.Choosing && at.Ref == c.item.SrcRef && errors.Is(err, oci.ManifestUnknown):
		return c.src.missing(err, at.Ref)
	case at != nil && at.Ref == "" && errors.Is(err, oci.NameUnknown):
		return c.src.missing(err, "")
	}
	return c.src.hint(err, "regctl cp", c.o.Src+" "+c.o.Dst)
}

// missing is the error for something that is not in the repository of t.
func (t target) missing(err error, ref string) error {
	there := t
	if there.ref = ""; ref == "" {
		there.repo = ""
	}
	return &hinted{err, t.image(t.repo, ref) + ": not there. What is: regctl ls " + there.String()}
}
