package ocitest

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// player makes the steps of a history on one registry and writes its answers
// down: what is not the same on every registry is left out of them.
type player struct {
	t   testing.TB
	reg oci.Registry
	ups [slots]held
}

// held is the handle of an upload, if there is one, and where that is.
type held struct {
	oci.Upload
	repo string
}

func newPlayer(t testing.TB, reg oci.Registry) *player { return &player{t: t, reg: reg} }

// close closes the handles that are left.
func (p *player) close() {
	for i := range p.ups {
		p.put(i, held{})
	}
}

// put puts a handle in a slot in place of the one that is there.
func (p *player) put(slot int, up held) {
	if old := p.ups[slot]; old.Upload != nil {
		_ = old.Close()
	}
	p.ups[slot] = up
}

// drop closes the handles in a repository that goes: when they notice is not
// the same everywhere.
func (p *player) drop(repo string) {
	for i, up := range p.ups {
		if up.repo == repo {
			p.put(i, held{})
		}
	}
}

// answer is what a call said: its code, or what it returned.
func answer(err error, values ...any) string {
	if err != nil {
		return string(oci.AsError(err).Code)
	}
	return fmt.Sprint(append([]any{"ok"}, values...)...)
}

func short(d oci.Descriptor) string {
	return fmt.Sprintf(" %s %s %d %s %v", d.MediaType, d.Digest, d.Size, d.ArtifactType, d.Annotations)
}

// play makes a step and returns the answer.
func (p *player) play(s step) string {
	ctx := p.t.Context()
	switch s.kind {
	case "put":
		d, err := p.reg.PutManifest(ctx, s.repo, oci.Put{
			Digest: s.manifest.digest, Tags: s.tags, Raw: []byte(s.manifest.raw), NoOverwrite: s.flag,
		})
		return answer(err, short(d))
	case "resolve":
		return p.resolve(s.repo, s.ref())
	case "manifest":
		m, err := p.reg.Manifest(ctx, s.repo, s.ref())
		return answer(err, short(m.Descriptor), " ", string(m.Raw))
	case "delete tag":
		return answer(p.reg.DeleteTag(ctx, s.repo, s.tags[0], s.was()))
	case "delete manifest":
		return answer(p.reg.DeleteManifest(ctx, s.repo, s.manifest.digest))
	case "delete repo":
		p.drop(s.repo)
		err := p.reg.DeleteRepo(ctx, s.repo)
		return openAnswer(answer(err), "ok")
	case "repos":
		return p.repos(s.other)
	case "tags":
		return p.tags(s.repo, s.tags[0])
	case "details":
		return openAnswer(listed(p.reg.TagDetails(ctx, s.repo, s.tags[0]), tagDetail), "ok")
	case "referrers":
		return listed(p.reg.Referrers(ctx, s.repo, s.manifest.digest, ""), short)
	}
	return p.playBlob(s)
}

// playBlob makes a step that is about blobs.
func (p *player) playBlob(s step) string {
	ctx := p.t.Context()
	switch s.kind {
	case "push":
		d, err := upload(ctx, p.reg, s.repo, []byte(s.blob.raw), s.blob.digest)
		return answer(err, d.Digest, " ", d.Size)
	case "stat blob":
		return p.statBlob(s.repo, s.blob.digest)
	case "blob":
		return p.readBlob(s)
	case "delete blob":
		return answer(p.reg.DeleteBlob(ctx, s.repo, s.blob.digest))
	case "mount":
		return p.mount(s)
	case "begin":
		up, err := p.reg.Upload(ctx, s.repo, "", oci.UploadOptions{})
		return p.hold(s.slot, s.repo, up, err)
	}
	up := p.ups[s.slot]
	if up.Upload == nil {
		return "no handle"
	}
	switch s.kind {
	case "find":
		in := s.repo
		if s.flag {
			in = up.repo
		}
		found, err := p.reg.Upload(ctx, in, up.ID(), oci.UploadOptions{})
		return p.hold(s.into, in, found, err)
	case "write":
		n, err := up.Write([]byte(s.blob.raw))
		return answer(err, n)
	case "commit":
		d, err := up.Commit(ctx, s.blob.digest)
		return answer(err, d.Digest, " ", d.Size)
	case "cancel":
		return answer(up.Cancel(ctx))
	case "close":
		p.put(s.slot, held{})
		return "closed"
	}
	p.t.Fatalf("a history has no step %q", s.kind)
	return ""
}

func (p *player) hold(slot int, repo string, up oci.Upload, err error) string {
	if err != nil {
		return answer(err)
	}
	p.put(slot, held{up, repo})
	return answer(nil, up.Size())
}

// openAnswer takes NAME_UNKNOWN for the answer about a repository that holds
// nothing: the contract leaves open whether one that was emptied is known.
func openAnswer(answer, ofEmpty string) string {
	if answer == string(oci.NameUnknown) {
		return ofEmpty
	}
	return answer
}

func (p *player) repos(after string) string {
	return listed(p.reg.Repos(p.t.Context(), after), func(name string) string { return " " + name })
}

func (p *player) tags(repo, after string) string {
	tags := listed(p.reg.Tags(p.t.Context(), repo, after), func(name string) string { return " " + name })
	return openAnswer(tags, "ok")
}

func (p *player) resolve(repo, ref string) string {
	d, err := p.reg.Resolve(p.t.Context(), repo, ref)
	return answer(err, short(d))
}

func (p *player) statBlob(repo string, digest oci.Digest) string {
	d, err := p.reg.StatBlob(p.t.Context(), repo, digest)
	return answer(err, d.Digest, " ", d.Size)
}

func (p *player) readBlob(s step) string {
	b, err := p.reg.Blob(p.t.Context(), s.repo, s.blob.digest)
	if err != nil {
		return answer(err)
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	return answer(err, b.Descriptor.Digest, " ", b.Descriptor.Size, " ", string(data))
}

// mount mounts a blob unless it is there: the contract leaves open whether a
// member may be mounted from where it is not.
func (p *player) mount(s step) string {
	if _, err := p.reg.StatBlob(p.t.Context(), s.repo, s.blob.digest); err == nil {
		return "there already"
	}
	up, err := p.reg.MountBlob(p.t.Context(), s.repo, s.other, s.blob.digest)
	if up != nil {
		return "upload, cancel: " + answer(up.Cancel(p.t.Context()))
	}
	return answer(err)
}

func tagDetail(d oci.TagDetail) string {
	platforms, _ := json.Marshal(d.Platforms) // Strings only.
	return fmt.Sprintf(" %s%s %d %s %s", d.Tag, short(d.Manifest), d.Size, d.Created.UTC().Format(time.RFC3339), platforms)
}

func listed[T any](seq iter.Seq2[T, error], write func(T) string) string {
	items, err := collect(seq)
	text := ""
	for _, item := range items {
		text += write(item)
	}
	return answer(err, text)
}

// state is all that can be seen of the registry, an answer a line.
func (p *player) state(w *world) []string {
	lines := []string{"repos: " + p.repos("")}
	for _, repo := range w.repos {
		lines = append(lines, "tags of "+repo+": "+p.tags(repo, ""))
		for _, tag := range w.tags {
			lines = append(lines, repo+":"+tag+": "+p.resolve(repo, tag))
		}
		for _, m := range w.manifests {
			lines = append(lines, repo+" "+m.name+": "+p.resolve(repo, string(m.digest)))
			lines = append(lines, repo+" referrers of "+m.name+": "+listed(p.reg.Referrers(p.t.Context(), repo, m.digest, ""), short))
		}
		for _, b := range w.blobs {
			lines = append(lines, repo+" "+b.name+": "+p.statBlob(repo, b.digest))
		}
	}
	return lines
}
