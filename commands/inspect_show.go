package commands

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// show writes v for people.
func (v *inspection) show(env *Env) error {
	b := &sheet{now: env.Now(), width: env.Width}
	v.head(b)
	detailed := v.detailed()
	if detailed == nil || len(v.Images) > 1 {
		v.platforms(b)
	}
	if detailed != nil {
		detailed.show(b)
	}
	if len(v.Referrers) > 0 {
		b.section("REFERRERS")
		b.referrers(v.Referrers, "")
	}
	return write(env.Stdout, []byte(b.text.String()), b.err)
}

// detailed is the image whose layers are shown, nil if there is none.
func (v *inspection) detailed() *imageInfo {
	var only *imageInfo
	for i := range v.Images {
		switch {
		case !v.Images[i].isReal():
		case only != nil:
			return nil
		default:
			only = &v.Images[i]
		}
	}
	return only
}

func (v *inspection) head(b *sheet) {
	name := v.Registry + "/" + v.Repo
	if strings.HasPrefix(v.Registry, layoutPrefix) {
		name = strings.TrimSuffix(v.Registry+":"+v.Repo, ":")
	}
	if v.Tag != "" {
		name += ":" + v.Tag
	}
	if v.Platform != "" {
		name += " for " + v.Platform
	}
	b.field("Name", name)
	b.field("Digest", string(v.Digest))
	b.field("Media type", v.MediaType)
	b.field("Artifact type", v.ArtifactType)
	b.field("Subject", string(v.Subject))
	b.time("Created", v.Created)
	b.field("Size", humanSize(v.Size))
	if v.Shared != nil {
		b.field("", humanSize(v.Shared.Own)+" of it only here, "+humanSize(v.Shared.Others)+" in other tags, too")
	}
	switch {
	case v.Tags == nil:
	case v.MoreTags:
		b.field("Other tags", strings.Join(append(v.Tags, "… (--tags looks at all)"), ", "))
	default:
		b.field("Other tags", cmp.Or(strings.Join(v.Tags, ", "), "none"))
	}
	b.pairs("Annotations", v.Annotations)
}

// platforms is the table of what an index names.
func (v *inspection) platforms(b *sheet) {
	var rows [][]string
	for _, i := range v.Images {
		row := []string{cmp.Or(i.Platform, "-"), string(i.Digest), humanSize(i.Size)}
		switch {
		case i.Missing:
			row[2] = "missing"
		case !i.isReal():
			row[0] = "attestation of " + cmp.Or(v.platformOf(i.Attests), shortDigest(i.Attests))
		case i.Platform == "" && i.ArtifactType != "":
			row[0] = i.ArtifactType
		}
		rows = append(rows, row)
	}
	b.table([]string{"PLATFORM", "DIGEST", "SIZE"}, rows)
}

func (v *inspection) platformOf(d oci.Digest) string {
	for _, i := range v.Images {
		if i.Digest == d {
			return i.Platform
		}
	}
	return ""
}

// show writes an image in detail.
func (i *imageInfo) show(b *sheet) {
	var rows [][]string
	for _, l := range i.Layers {
		digest, size := "-", "-"
		if l.Digest != "" {
			digest, size = shortDigest(l.Digest), humanSize(l.Size)
		}
		rows = append(rows, []string{digest, size, cmp.Or(oneLine(l.CreatedBy), l.Title, l.MediaType)})
	}
	b.table([]string{"LAYER", "SIZE", "CREATED BY"}, rows)
	if i.Config != nil {
		b.config(i.Platform, i.Config)
	}
}

func oneLine(s string) string {
	s = strings.TrimPrefix(s, "/bin/sh -c #(nop) ")
	return printable(strings.Join(strings.Fields(s), " "))
}

// printable keeps what others wrote from steering a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}

// sheet is a page for people.
type sheet struct {
	text  strings.Builder
	now   time.Time
	width int // Of the terminal; 0: unknown.
	err   error
}

// field writes a line, nothing if there is no value.
func (b *sheet) field(name, value string) {
	if value == "" {
		return
	}
	if name != "" {
		name += ":"
	}
	fmt.Fprintf(&b.text, "%-14s %s\n", name, printable(value))
}

func (b *sheet) time(name string, t time.Time) {
	if !t.IsZero() {
		b.field(name, t.Format(time.RFC3339)+" ("+ago(b.now, t)+")")
	}
}

func (b *sheet) section(title string) { fmt.Fprintf(&b.text, "\n%s\n", title) }

// pairs writes a map, one value a line.
func (b *sheet) pairs(name string, m map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b.field(name, key+"="+m[key])
		name = ""
	}
}

func (b *sheet) list(name string, values []string) {
	for _, value := range values {
		b.field(name, value)
		name = ""
	}
}

// table writes rows, the last column cut to the width of the terminal.
func (b *sheet) table(columns []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	last := len(columns) - 1
	if b.width > 0 {
		room := b.width - 1
		for c := range last {
			longest := len(columns[c])
			for _, row := range rows {
				longest = max(longest, len([]rune(row[c])))
			}
			room -= longest + 2
		}
		for _, row := range rows {
			if cell := []rune(row[last]); len(cell) > max(room, 20) {
				row[last] = string(cell[:max(room, 20)-1]) + "…"
			}
		}
	}
	b.text.WriteString("\n")
	if err := writeTable(&b.text, columns, rows); b.err == nil {
		b.err = err
	}
}

func (b *sheet) config(platform string, c *ocispec.ImageConfig) {
	own := &sheet{}
	own.configFields(platform, c)
	if own.text.Len() > 0 {
		b.section("CONFIG")
		b.text.WriteString(own.text.String())
	}
}

func (b *sheet) configFields(platform string, c *ocispec.ImageConfig) {
	b.field("Platform", platform)
	b.field("Entrypoint", quoted(c.Entrypoint))
	b.field("Cmd", quoted(c.Cmd))
	b.field("User", c.User)
	b.field("Workdir", c.WorkingDir)
	b.field("Stop signal", c.StopSignal)
	b.field("Ports", strings.Join(slices.Sorted(maps.Keys(c.ExposedPorts)), " "))
	b.field("Volumes", strings.Join(slices.Sorted(maps.Keys(c.Volumes)), " "))
	b.list("Env", c.Env)
	b.pairs("Labels", c.Labels)
}

// quoted writes the words of a command so that their borders are seen.
func quoted(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return fmt.Sprintf("%q", words)
}

// referrers writes a tree.
func (b *sheet) referrers(list []referrerInfo, indent string) {
	for n, r := range list {
		branch, below := "├─ ", "│  "
		if n == len(list)-1 {
			branch, below = "└─ ", "   "
		}
		line := shortDigest(r.Digest) + "  " + cmp.Or(r.ArtifactType, "of no type") + "  " + humanSize(r.Size)
		if r.Tag != "" {
			line += "  (tag " + r.Tag[strings.LastIndexByte(r.Tag, '.'):] + ")"
		}
		fmt.Fprintf(&b.text, "%s%s%s\n", indent, branch, printable(line))
		b.referrers(r.Referrers, indent+below)
	}
}
