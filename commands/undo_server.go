package commands

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
)

// The kinds of what a regctl serve records.
const (
	deletedTag      = "tag"
	deletedManifest = "manifest"
)

// serverRun is what a regctl serve has recorded of one command of a client; of
// other clients, of what one did in a minute.
type serverRun struct {
	id        string // As the client's own record is called, where it has one.
	key       serverRunKey
	at        time.Time
	repos     []string
	tags      int
	manifests int
}

type serverRunKey struct {
	run, by, addr string
	minute        int64 // 0 if there is a run.
}

func keyOf(d *client.Deletion) serverRunKey {
	k := serverRunKey{run: d.Run, by: d.By, addr: d.Addr}
	if d.Run == "" {
		k.minute = d.At.Unix() / 60
	}
	return k
}

// runUndoServer is `regctl undo --registry`.
func runUndoServer(ctx context.Context, env *Env, o *undoOptions) error {
	t, err := env.target("", &o.remoteOptions)
	if err != nil {
		return err
	}
	ctx = looking(ctx)
	c, err := env.open(t, &o.remoteOptions, env.warn)
	if err != nil {
		return err
	}
	err = undoOn(ctx, env, o, c)
	if errors.Is(err, oci.Unsupported) {
		return &hinted{err, err.Error() + ". What was deleted by this machine: regctl undo --list"}
	}
	return t.hint(err, "regctl undo --registry", t.address())
}

func undoOn(ctx context.Context, env *Env, o *undoOptions, c *client.Client) error {
	runs, err := serverRuns(ctx, c)
	if err != nil {
		return err
	}
	if o.List {
		return listServerRuns(env, c.Host(), runs)
	}
	if len(runs) == 0 {
		return &ExitError{exitNotFound, fmt.Errorf("nothing is recorded on %s that could be undone", c.Host())}
	}
	run := runs[len(runs)-1]
	if o.ID != "" {
		i := slices.IndexFunc(runs, func(r *serverRun) bool { return r.id == o.ID })
		if i < 0 {
			return &ExitError{exitNotFound, fmt.Errorf("there is no record %s on %s; see: regctl undo --registry %s --list", o.ID, c.Host(), o.Registry)}
		}
		run = runs[i]
	}
	journal, err := serverJournal(ctx, c, run)
	if err != nil {
		return err
	}
	defer os.Remove(journal.Name()) //nolint:errcheck // It is in the directory for what may go.
	defer journal.Close()
	undone, err := prune.Undo(ctx, func(string) (oci.Registry, error) { return restoring{c}, nil },
		journal, prune.UndoOptions{Force: o.Force, DryRun: o.DryRun, Jobs: o.Jobs})
	if err != nil {
		return err
	}
	return tellUndone(env, o, undone)
}

// serverRuns groups what is recorded, the oldest first.
func serverRuns(ctx context.Context, c *client.Client) ([]*serverRun, error) {
	var runs []*serverRun
	known := map[serverRunKey]*serverRun{}
	ids := map[string]int{}
	for d, err := range c.Deletions(ctx, client.DeletionsOptions{}) {
		if err != nil {
			return nil, err
		}
		k := keyOf(&d)
		r := known[k]
		if r == nil {
			id, _, _ := strings.Cut(d.Run, runSuffix)
			r = &serverRun{id: cmp.Or(id, strconv.FormatInt(d.ID, 10)), key: k, at: d.At}
			if ids[r.id]++; ids[r.id] > 1 { // Another machine had the same idea.
				r.id += "." + strconv.Itoa(ids[r.id])
			}
			known[k] = r
			runs = append(runs, r)
		}
		r.add(&d)
	}
	return runs, nil
}

func (r *serverRun) add(d *client.Deletion) {
	switch d.Kind {
	case deletedTag:
		r.tags++
	case deletedManifest:
		r.manifests++
	}
	if !slices.Contains(r.repos, d.Repo) {
		r.repos = append(r.repos, d.Repo)
	}
}

// who deleted it, as far as the server knows.
func (r *serverRun) who() string {
	return strings.Join(slices.DeleteFunc([]string{r.key.by, r.key.addr}, func(s string) bool { return s == "" }), ", ")
}

// fewRepos is how many repositories are told by name.
const fewRepos = 3

func (r *serverRun) where() string {
	if len(r.repos) > fewRepos {
		return many(len(r.repos), "repository")
	}
	return strings.Join(r.repos, ", ")
}

func listServerRuns(env *Env, host string, runs []*serverRun) error {
	var rows [][]string
	for _, r := range runs {
		if !env.Terminal {
			if _, err := fmt.Fprintln(env.Stdout, r.id); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{
			r.id, r.at.Local().Format(time.DateTime), r.who(), r.where(), fmt.Sprint(r.tags), fmt.Sprint(r.manifests),
		})
	}
	if len(runs) == 0 {
		env.say("nothing is recorded on %s", host)
	}
	if len(rows) == 0 {
		return nil
	}
	return writeTable(env.Stdout, []string{"ID", "TIME", "BY", "WHERE", "TAGS", "MANIFESTS"}, rows)
}

// serverJournal writes a run as a journal into a temporary file. The caller
// closes and removes it.
func serverJournal(ctx context.Context, c *client.Client, run *serverRun) (*os.File, error) {
	f, err := os.CreateTemp("", "regctl-undo-")
	if err != nil {
		return nil, err
	}
	w := &serverJournalWriter{c: c, out: json.NewEncoder(f), has: map[place]bool{}}
	if err := w.write(ctx, run); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// place is a manifest in a repository.
type place struct {
	repo   string
	digest oci.Digest
}

type serverJournalWriter struct {
	c    *client.Client
	out  *json.Encoder
	has  map[place]bool // Manifests that were written.
	tags []client.Deletion
}

func (w *serverJournalWriter) write(ctx context.Context, run *serverRun) error {
	if err := w.entry(prune.Entry{Kind: prune.KindRun, Time: run.at}); err != nil {
		return err
	}
	o := client.DeletionsOptions{Since: run.at, Run: run.key.run, Raw: true}
	for d, err := range w.c.Deletions(ctx, o) {
		if err != nil {
			return err
		}
		if keyOf(&d) != run.key {
			continue
		}
		switch d.Kind {
		case deletedManifest:
			err = w.manifest(d.Repo, d.Digest, d.Raw, true)
		case deletedTag:
			w.tags = append(w.tags, d)
			err = w.entry(prune.Entry{Kind: prune.KindTag, Repo: d.Repo, Tag: d.Tag, Digest: d.Digest})
		}
		if err != nil {
			return err
		}
	}
	for _, d := range w.tags {
		if w.has[place{d.Repo, d.Digest}] {
			continue
		}
		raw, err := w.find(ctx, d)
		if err == nil && raw != nil {
			err = w.manifest(d.Repo, d.Digest, raw, false)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find returns the manifest of a tag that went without it: from the repository,
// or if it was deleted since, from the record of that. Nil: it is nowhere.
func (w *serverJournalWriter) find(ctx context.Context, of client.Deletion) ([]byte, error) {
	m, err := w.c.Manifest(ctx, of.Repo, string(of.Digest))
	if !errors.Is(err, oci.ManifestUnknown) && !errors.Is(err, oci.NameUnknown) {
		return m.Raw, err
	}
	for d, err := range w.c.Deletions(ctx, client.DeletionsOptions{Digest: of.Digest, Raw: true}) {
		if err != nil || d.Repo == of.Repo && d.Raw != nil {
			return d.Raw, err
		}
	}
	return nil, nil
}

func (w *serverJournalWriter) manifest(repo string, d oci.Digest, raw []byte, goes bool) error {
	w.has[place{repo, d}] = true
	return w.entry(prune.Entry{Kind: prune.KindManifest, Repo: repo, Digest: d, MediaType: oci.MediaTypeOf(raw), Goes: goes, Raw: raw})
}

func (w *serverJournalWriter) entry(e prune.Entry) error { return w.out.Encode(e) }

// restoring is a registry that asks, for an image that is put back, for the
// blobs that its repository had.
type restoring struct{ oci.Registry }

func (r restoring) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	d, err := r.Registry.PutManifest(ctx, repo, p)
	if !errors.Is(err, oci.ManifestBlobUnknown) {
		return d, err
	}
	g, parseErr := oci.ParseManifest(p.MediaType, p.Raw)
	if parseErr != nil || g.IsIndex() {
		return d, err
	}
	for _, b := range append([]oci.Descriptor{g.Config}, g.Layers...) {
		u, mountErr := r.MountBlob(ctx, repo, repo, b.Digest)
		if u != nil {
			mountErr = errors.Join(oci.BlobUnknown, u.Cancel(ctx))
		}
		if mountErr != nil {
			return d, err
		}
	}
	return r.Registry.PutManifest(ctx, repo, p)
}
