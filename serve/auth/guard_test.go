package auth

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/auth/rule"
)

// policy compiles rules of the form "WHO WHAT ACTION,…"; "!" before the actions
// denies them.
func policy(t testing.TB, lines ...string) *rule.Policy {
	t.Helper()
	var rules []rule.Rule
	for _, l := range lines {
		f := strings.Fields(l)
		r := rule.Rule{Who: []string{f[0]}, What: []string{f[1]}, Because: "of " + f[1]}
		if denied, ok := strings.CutPrefix(f[2], "!"); ok {
			r.Deny = strings.Split(denied, ",")
		} else {
			r.May = strings.Split(f[2], ",")
		}
		rules = append(rules, r)
	}
	p, err := rule.Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func user(name string, groups ...string) *Session {
	return &Session{Identity: Identity{Kind: rule.User, Name: name, Groups: groups}, Ruled: true}
}

// scoped returns s with a token for rights such as "repository:app:pull,push".
func scoped(s *Session, rights ...string) *Session {
	c := *s
	c.Scoped = true
	for _, r := range rights {
		f := strings.Split(r, ":")
		c.Scope = append(c.Scope, Access{Type: f[0], Name: f[1], Actions: strings.Split(f[2], ",")})
	}
	return &c
}

// as is reg with every call made by s.
func as(reg oci.Registry, s *Session) oci.Registry {
	in := func(ctx context.Context) context.Context { return WithSession(ctx, s) }
	return &ocitest.Funcs{
		OnResolve: func(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
			return reg.Resolve(in(ctx), repo, ref)
		},
		OnManifest: func(ctx context.Context, repo, ref string) (oci.Manifest, error) {
			return reg.Manifest(in(ctx), repo, ref)
		},
		OnStatBlob: func(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
			return reg.StatBlob(in(ctx), repo, d)
		},
		OnBlob: func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
			return reg.Blob(in(ctx), repo, d)
		},
		OnPutManifest: func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
			return reg.PutManifest(in(ctx), repo, p)
		},
		OnMountBlob: func(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
			return reg.MountBlob(in(ctx), repo, from, d)
		},
		OnUpload: func(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
			return reg.Upload(in(ctx), repo, id, o)
		},
		OnDeleteTag: func(ctx context.Context, repo, tag string, was oci.Digest) error {
			return reg.DeleteTag(in(ctx), repo, tag, was)
		},
		OnDeleteManifest: func(ctx context.Context, repo string, d oci.Digest) error {
			return reg.DeleteManifest(in(ctx), repo, d)
		},
		OnDeleteBlob: func(ctx context.Context, repo string, d oci.Digest) error { return reg.DeleteBlob(in(ctx), repo, d) },
		OnDeleteRepo: func(ctx context.Context, repo string) error { return reg.DeleteRepo(in(ctx), repo) },
		OnRepos:      func(ctx context.Context, after string) iter.Seq2[string, error] { return reg.Repos(in(ctx), after) },
		OnTags: func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
			return reg.Tags(in(ctx), repo, after)
		},
		OnTagDetails: func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
			return reg.TagDetails(in(ctx), repo, after)
		},
		OnReferrers: func(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
			return reg.Referrers(in(ctx), repo, d, artifactType)
		},
	}
}

func guarded(t testing.TB, reg oci.Registry, rules ...string) oci.Registry {
	t.Helper()
	return Guard(reg, NewRules(policy(t, rules...)), GuardOptions{UploadKey: []byte("secret")})
}

// For who may do everything the guard is not there, with and without a token.
func TestGuardIsARegistry(t *testing.T) {
	t.Parallel()
	robot := &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci ** all")}, Ruled: true}
	for name, s := range map[string]*Session{"user": user("alice"), "robot": robot} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ocitest.Run(t, func(t testing.TB) oci.Registry {
				return as(guarded(t, ocitest.NewRegistry(), "user:alice ** all"), s)
			}, ocitest.Exceptions{NoAnyMount: "nobody may have what was not named"})
		})
	}
}

// call is a call of a method of a registry, on repo if it is about one.
type call struct {
	method string
	needs  string // The action; of a call about tags for each of them.
	do     func(ctx context.Context, reg oci.Registry, repo string) error
}

// first is the error of a sequence.
func first[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		return err
	}
	return nil
}

func calls(d oci.Digest, raw string) []call {
	return []call{
		{"Resolve", "pull", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.Resolve(ctx, repo, "v1")
			return err
		}},
		{"Manifest", "pull", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.Manifest(ctx, repo, "v1")
			return err
		}},
		{"StatBlob", "pull", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.StatBlob(ctx, repo, d)
			return err
		}},
		{"Blob", "pull", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.Blob(ctx, repo, d)
			return err
		}},
		{"PutManifest", "push", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.PutManifest(ctx, repo, oci.Put{Raw: []byte(raw), Tags: []string{"new"}})
			return err
		}},
		{"PutManifest", "push", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.PutManifest(ctx, repo, oci.Put{Raw: []byte(raw)})
			return err
		}},
		{"MountBlob", "push", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.MountBlob(ctx, repo, "", d)
			return err
		}},
		{"Upload", "push", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.Upload(ctx, repo, "", oci.UploadOptions{})
			return err
		}},
		{"Upload", "push", func(ctx context.Context, reg oci.Registry, repo string) error {
			_, err := reg.Upload(ctx, repo, "3fa85f64-5717-4562-b3fc-2c963f66afa6", oci.UploadOptions{})
			return err
		}},
		{"DeleteTag", "delete", func(ctx context.Context, reg oci.Registry, repo string) error {
			return reg.DeleteTag(ctx, repo, "v1", "")
		}},
		{"DeleteManifest", "delete", func(ctx context.Context, reg oci.Registry, repo string) error {
			return reg.DeleteManifest(ctx, repo, d)
		}},
		{"DeleteBlob", "delete", func(ctx context.Context, reg oci.Registry, repo string) error { return reg.DeleteBlob(ctx, repo, d) }},
		{"DeleteRepo", "delete", func(ctx context.Context, reg oci.Registry, repo string) error { return reg.DeleteRepo(ctx, repo) }},
		{"Repos", "list", func(ctx context.Context, reg oci.Registry, _ string) error { return first(reg.Repos(ctx, "")) }},
		{"Tags", "pull", func(ctx context.Context, reg oci.Registry, repo string) error { return first(reg.Tags(ctx, repo, "")) }},
		{"TagDetails", "pull", func(ctx context.Context, reg oci.Registry, repo string) error {
			return first(reg.TagDetails(ctx, repo, ""))
		}},
		{"Referrers", "pull", func(ctx context.Context, reg oci.Registry, repo string) error {
			return first(reg.Referrers(ctx, repo, d, ""))
		}},
	}
}

// stocked is a registry with one image, v1, in each of repos.
func stocked(t testing.TB, repos ...string) (oci.Registry, map[string]oci.Digest) {
	t.Helper()
	reg, content := ocitest.NewRegistry(), ocitest.Content{}
	for _, repo := range repos {
		content[repo] = ocitest.Repo{
			Blobs:     ocitest.Blobs{"layer": "bytes"},
			Manifests: ocitest.Manifests{"image": {Layers: "layer"}},
			Tags:      ocitest.Tags{"v1": "image"},
		}
	}
	return reg, ocitest.Push(t, reg, content)
}

const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

// TestGuardAsksEverywhere holds every method of a registry, whatever is added
// to it, against every single right.
func TestGuardAsksEverywhere(t *testing.T) {
	t.Parallel()
	has := map[string]bool{}
	for _, c := range calls("", "") {
		has[c.method] = true
	}
	for m := range reflect.TypeFor[oci.Registry]().Methods() {
		if !has[m.Name] {
			t.Errorf("nobody knows what may be asked of %s", m.Name)
		}
	}
	for _, action := range []string{"pull", "push", "overwrite", "delete", "list"} {
		reg, digests := stocked(t, "app", "hidden")
		g := guarded(t, reg, "user:alice app "+action, "user:alice hidden !all")
		for _, c := range calls(digests["image"], emptyIndex) {
			err := c.do(WithSession(t.Context(), user("alice")), g, "app")
			if denied := errors.Is(err, oci.Denied); denied == (c.needs == action) {
				t.Errorf("%s with the right to %s: %v", c.method, action, err)
			}
		}
	}
}

// untouchable is a registry that nobody may ask anything.
func untouchable(t *testing.T) oci.Registry {
	return as(&ocitest.Funcs{}, nil) // Without a Registry every call panics.
}

// Without a session, without rules, and without rights a registry is not even
// asked.
func TestGuardAsksBefore(t *testing.T) {
	t.Parallel()
	everything := policy(t, "everyone ** all")
	for name, c := range map[string]struct {
		s *Session
		p *rule.Policy
	}{
		"no session": {nil, everything}, "no rules": {user("alice"), nil},
		"an empty session": {&Session{}, policy(t, "all ** all")}, "another user": {user("alice"), policy(t, "user:bob ** all")},
		"anonymous":                  {&Session{Ruled: true}, policy(t, "all ** all")},
		"a token for nothing":        {scoped(user("alice")), everything},
		"a token for something else": {scoped(user("alice"), "repository:apps:pull,push,delete", "repository:ap:*", "registry:app:*", "repository:catalog:*"), everything},
		"a robot for something else": {&Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci other !all")}, Ruled: true}, policy(t, "all ** all")},
		"a robot for nothing":        {&Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: &rule.Policy{}}, Ruled: true}, policy(t, "all ** all")},
	} {
		g := Guard(untouchable(t), NewRules(c.p), GuardOptions{})
		for _, call := range calls(digest.FromString("x"), emptyIndex) {
			ctx := t.Context()
			if c.s != nil {
				ctx = WithSession(ctx, c.s)
			}
			err := call.do(ctx, g, "app")
			var denied *DeniedError
			if !errors.As(err, &denied) || !errors.Is(err, oci.Denied) {
				t.Errorf("%s: %s is answered with %v", name, call.method, err)
			} else if narrow := c.s != nil && c.s.Scoped; denied.Narrow != narrow || c.s != nil && len(denied.Need) == 0 {
				t.Errorf("%s: %s is answered with %+v", name, call.method, denied)
			}
		}
	}
}

// Rules that change count at the next call.
func TestGuardKnowsTheRulesOfNow(t *testing.T) {
	t.Parallel()
	reg, _ := stocked(t, "app")
	rules := NewRules(nil)
	g := as(Guard(reg, rules, GuardOptions{}), user("alice"))
	for _, p := range []*rule.Policy{nil, policy(t, "user:alice app pull"), policy(t, "user:bob app pull"), policy(t, "all ** pull")} {
		rules.Store(p)
		_, err := g.Resolve(t.Context(), "app", "v1")
		if may := p.Decide(rule.Subject{Kind: rule.User, Name: "alice"}, "app", "", rule.Pull).Allowed; may != (err == nil) {
			t.Errorf("%v: %v", p.Rules(), err)
		}
	}
}

// What is hidden is answered as what is absent, word for word.
func TestGuardTellsNotWhatIsHidden(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "app", "hidden")
	for _, rules := range [][]string{{"user:alice app all"}, {"user:alice hidden !all", "user:alice absent !all", "user:alice ** all"}} {
		g := as(guarded(t, reg, rules...), user("alice"))
		for _, c := range calls(digests["image"], emptyIndex) {
			if c.method == "Repos" {
				continue
			}
			hidden, absent := c.do(t.Context(), g, "hidden"), c.do(t.Context(), g, "absent")
			var denied *DeniedError
			if !errors.As(hidden, &denied) || denied.Tell || hidden.Error() != absent.Error() || strings.Contains(hidden.Error(), "rule") {
				t.Errorf("%s: hidden %v, absent %v", c.method, hidden, absent)
			}
		}
	}
}

func TestGuardNamesTheRule(t *testing.T) {
	t.Parallel()
	reg, _ := stocked(t, "app")
	g := as(guarded(t, reg, "user:alice app !delete", "user:alice app pull", "user:bob app !all"), user("alice"))
	err := g.DeleteTag(t.Context(), "app", "v1", "")
	var denied *DeniedError
	if !errors.As(err, &denied) || !denied.Tell || !strings.Contains(err.Error(), "rule 1: of app") || denied.Narrow {
		t.Errorf("got %v", err)
	}
	if _, err := g.Upload(t.Context(), "app", "", oci.UploadOptions{}); err == nil || !strings.Contains(err.Error(), "no rule allows it") {
		t.Errorf("got %v", err)
	}
}

func TestGuardNeeds(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "app", "base")
	g := as(guarded(t, reg, "all ** all"), scoped(user("alice")))
	want := map[string]string{
		"pull": "repository:app:pull", "push": "repository:app:pull,push", "delete": "repository:app:delete", "list": "registry:catalog:*",
	}
	for _, c := range calls(digests["image"], emptyIndex) {
		if got := needed(t, c.do(t.Context(), g, "app")); got != want[c.needs] {
			t.Errorf("%s needs %s, want %s", c.method, got, want[c.needs])
		}
	}
	_, err := g.MountBlob(t.Context(), "app", "base", digests["layer"])
	if got := needed(t, err); got != "repository:app:pull,push repository:base:pull" {
		t.Errorf("a mount needs %s", got)
	}
	ctx := oci.WithCaller(t.Context(), oci.Caller{Method: "DELETE"})
	if _, err := g.Resolve(ctx, "app", "v1"); needed(t, err) != "repository:app:delete" {
		t.Errorf("a condition of a deletion needs %s", needed(t, err))
	}
	g = as(guarded(t, reg, "all ** all"), scoped(user("alice"), "repository:app:delete"))
	if _, err := g.Resolve(ctx, "app", "v1"); err != nil {
		t.Error(err)
	}
	if _, err := g.Resolve(t.Context(), "app", "v1"); needed(t, err) != "repository:app:pull" {
		t.Error(err)
	}
}

// needed writes down the rights that a token lacked.
func needed(t *testing.T, err error) string {
	t.Helper()
	var denied *DeniedError
	if !errors.As(err, &denied) || !denied.Narrow {
		t.Errorf("got %v, want that the token is too narrow", err)
		return ""
	}
	var all []string
	for _, a := range denied.Need {
		all = append(all, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
	}
	return strings.Join(all, " ")
}

func TestGuardScopes(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "app")
	for _, c := range []struct{ right, does string }{
		{"repository:app:pull", "pull"}, {"repository:app:push", "push"}, {"repository:app:delete", "delete"},
		{"repository:app:*", "pull push delete"}, {"registry:catalog:*", "list"}, {"registry:catalog:pull", ""}, {"repository:app:Pull", ""},
	} {
		for _, call := range calls(digests["image"], emptyIndex) {
			g := as(guarded(t, reg, "all ** all"), scoped(user("alice"), c.right))
			if call.needs == "delete" {
				g = as(guarded(t, ocitest.NewRegistry(), "all ** all"), scoped(user("alice"), c.right))
			}
			err := call.do(t.Context(), g, "app")
			if may := slices.Contains(strings.Fields(c.does), call.needs); may == errors.Is(err, oci.Denied) {
				t.Errorf("%s with %s: %v", call.method, c.right, err)
			}
		}
	}
}

func TestGuardMount(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		s    *Session
		from string
		want string // mounted, upload, or a code.
	}{
		"may pull the source":              {user("alice"), "open", "mounted"},
		"may not pull the source":          {user("alice"), "hidden", "upload"},
		"there is no such source":          {user("alice"), "absent", "upload"},
		"from itself":                      {user("alice"), "own", "upload"},
		"from nowhere":                     {user("alice"), "", "upload"},
		"the token is for both":            {scoped(user("alice"), "repository:own:push", "repository:open:pull"), "open", "mounted"},
		"the token is for one":             {scoped(user("alice"), "repository:own:pull,push"), "open", "narrow"},
		"the token is not for the hidden":  {scoped(user("alice"), "repository:own:push"), "hidden", "upload"},
		"the token is for the hidden":      {scoped(user("alice"), "repository:own:push", "repository:hidden:pull"), "hidden", "upload"},
		"the token is for the source only": {scoped(user("alice"), "repository:open:pull"), "open", "narrow"},
		"may not push":                     {user("bob"), "open", "denied"},
		"may push and not pull":            {user("carol"), "open", "upload"},
	} {
		reg, digests := stocked(t, "open", "hidden")
		g := as(guarded(t, reg, "user:alice own all", "all open pull", "user:carol own push"), c.s)
		got := "mounted"
		up, err := g.MountBlob(t.Context(), "own", c.from, digests["layer"])
		var denied *DeniedError
		switch {
		case errors.As(err, &denied) && denied.Narrow:
			got = "narrow"
		case errors.As(err, &denied):
			got = "denied"
		case err != nil:
			t.Error(err)
		case up != nil:
			got = "upload"
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if _, err := reg.StatBlob(t.Context(), "own", digests["layer"]); (err == nil) != (c.want == "mounted") {
			t.Errorf("%s: the blob: %v", name, err)
		}
	}
}

// What is in a repository is not found out by who may only push there.
func TestGuardMountFindsNothingOut(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "own", "open")
	g := as(guarded(t, reg, "all own push", "all open pull"), user("alice"))
	for _, from := range []string{"", "own", "open", "absent"} {
		if up, err := g.MountBlob(t.Context(), "own", from, digests["layer"]); err != nil || up == nil {
			t.Errorf("from %q: %v %v", from, up, err)
		}
	}
}

// TestGuardTellsHowFarAnUploadIs to who has a token for what a GET is in
// registry:2, and takes nothing for it.
func TestGuardTellsHowFarAnUploadIs(t *testing.T) {
	t.Parallel()
	g := guarded(t, ocitest.NewRegistry(), "user:alice app all", "user:bob app pull")
	up, err := as(g, user("alice")).Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := up.ID()
	up.Close()
	for _, c := range []struct {
		s          *Session
		method, id string
		want       error
	}{
		{scoped(user("alice"), "repository:app:pull"), "GET", id, nil},
		{scoped(user("alice"), "repository:app:pull"), "HEAD", id, nil},
		{scoped(user("alice"), "repository:app:push"), "GET", id, nil},
		{scoped(user("alice"), "repository:app:pull"), "PATCH", id, oci.Denied},
		{scoped(user("alice"), "repository:app:pull"), "PUT", id, oci.Denied},
		{scoped(user("alice"), "repository:app:pull"), "DELETE", id, oci.Denied},
		{scoped(user("alice"), "repository:app:pull"), "POST", "", oci.Denied},
		{scoped(user("alice"), "repository:other:pull"), "GET", id, oci.Denied},
		{user("bob"), "GET", id, oci.Denied},
	} {
		ctx := oci.WithCaller(t.Context(), oci.Caller{Method: c.method})
		if up, err := as(g, c.s).Upload(ctx, "app", c.id, oci.UploadOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s by %s with %v: %v", c.method, c.s, c.s.Scope, err)
		} else if err == nil {
			up.Close()
		}
	}
}

func TestGuardUploadsBelongToSomebody(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	p := policy(t, "everyone ** all")
	open := func(secret string) oci.Registry {
		return Guard(reg, NewRules(p), GuardOptions{UploadKey: []byte(secret)})
	}
	g := open("secret")
	alice := user("alice")
	begin := func(s *Session) string {
		up, err := as(g, s).Upload(t.Context(), "app", "", oci.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer up.Close()
		if _, err := up.Write([]byte("some")); err != nil {
			t.Fatal(err)
		}
		return up.ID()
	}
	id := begin(alice)
	other := begin(user("bob"))
	inner, proof, _ := strings.Cut(id, ".")
	_, otherProof, _ := strings.Cut(other, ".")
	robot := &Session{Identity: Identity{Kind: rule.Robot, Name: "alice", Limit: p}, Ruled: true}
	for name, c := range map[string]struct {
		g    oci.Registry
		s    *Session
		repo string
		id   string
	}{
		"another user": {g, user("bob"), "app", id}, "a robot of that name": {g, robot, "app", id}, "anonymous": {g, &Session{}, "app", id},
		"another repository": {g, alice, "app2", id}, "the id of the store": {g, alice, "app", inner},
		"the proof of another": {g, alice, "app", inner + "." + otherProof}, "no proof": {g, alice, "app", inner + "."},
		"more of it": {g, alice, "app", id + "A"}, "less of it": {g, alice, "app", id[:len(id)-1]}, "twice": {g, alice, "app", id + "." + proof},
		"only a proof": {g, alice, "app", "." + proof}, "another key": {open("other"), alice, "app", id}, "a random key": {open(""), alice, "app", id},
	} {
		if _, err := as(c.g, c.s).Upload(t.Context(), c.repo, c.id, oci.UploadOptions{}); !errors.Is(err, oci.BlobUploadUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// With a token, with other groups, and after a restart it is hers.
	for name, reg := range map[string]oci.Registry{
		"a token":   as(g, scoped(user("alice", "php"), "repository:app:push")),
		"a restart": as(open("secret"), alice),
	} {
		up, err := reg.Upload(t.Context(), "app", id, oci.UploadOptions{})
		if err != nil || up.Size() != 4 || up.ID() != id {
			t.Errorf("%s: %v", name, err)
		}
	}
	up, err := as(g, alice).Upload(t.Context(), "app", id, oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.ReadFrom(strings.NewReader(" more")); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Commit(t.Context(), digest.FromString("some more")); err != nil {
		t.Error(err)
	}
}

// Nothing that an id is tied to can stand for something else.
func TestUploadIDs(t *testing.T) {
	t.Parallel()
	ids := newUploadIDs([]byte("secret"))
	const id = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	alice := Identity{Kind: rule.User, Name: "alice"}
	sealed := ids.seal(alice, "team/app", id)
	if got, ok := ids.open(alice, "team/app", sealed); !ok || got != id || len(sealed) > 64 {
		t.Errorf("%s: got %s, %v", sealed, got, ok)
	}
	seen := map[string]bool{sealed: true}
	for _, c := range []struct {
		who      Identity
		repo, id string
	}{
		{alice, "team/ap", id}, {alice, "app", id}, {Identity{Kind: rule.User, Name: "alic"}, "eteam/app", id}, {Identity{Kind: rule.User, Name: "aliceteam/"}, "app", id},
		{Identity{Kind: rule.Robot, Name: "alice"}, "team/app", id}, {Identity{}, "aliceteam/app", id}, {alice, "team/app" + id[:1], id[1:]}, {alice, "team/app", id[1:]},
	} {
		_, proof, _ := strings.Cut(ids.seal(c.who, c.repo, c.id), ".")
		if seen[proof] {
			t.Errorf("%v has the proof of another", c)
		}
		seen[proof] = true
		if _, ok := ids.open(c.who, c.repo, c.id+sealed[len(id):]); ok {
			t.Errorf("%v is taken", c)
		}
	}
}

// putIndex pushes what no other seed does.
func putIndex(ctx context.Context, reg oci.Registry, repo, seed string, p oci.Put) error {
	p.Raw = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"seed":"` + seed + `"}}`)
	_, err := reg.PutManifest(ctx, repo, p)
	return err
}

func TestGuardKeepsTags(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	g := as(guarded(t, reg, "all **:v* !overwrite,delete", "all app:rc-* push,pull", "all app:* pull,push", "all app pull"), user("alice"))
	put := func(seed string, p oci.Put) error { return putIndex(t.Context(), g, "app", seed, p) }
	for _, p := range []oci.Put{{Tags: []string{"latest", "v1"}}, {Tags: []string{"v1"}}, {}} {
		if err := put("1", p); err != nil {
			t.Fatal(err)
		}
	}
	now := func() string { return fmt.Sprint(reg.Resolve(t.Context(), "app", "v1")) }
	was := now()
	for _, p := range []oci.Put{
		{Tags: []string{"v1"}}, {Tags: []string{"latest", "v1"}}, {Tags: []string{"v2", "v1"}}, {Tags: []string{"v1"}, Fixed: []string{"latest"}},
		{Tags: []string{"v1", "v1"}}, {Tags: []string{"v1"}, Digest: digest.FromString(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"seed":"2"}}`)},
	} {
		err := put("2", p)
		if !errors.Is(err, oci.Denied) || !strings.Contains(err.Error(), "rule 1: of **:v*") {
			t.Errorf("%v: %v", p.Tags, err)
		}
	}
	// Who asks for it is told that the tag is there.
	if err := put("2", oci.Put{Tags: []string{"v1"}, NoOverwrite: true}); !errors.Is(err, oci.TagExists) || errors.Is(err, oci.Denied) {
		t.Error(err)
	}
	if now() != was {
		t.Errorf("v1 was moved to %s", now())
	}
	if d, err := reg.Resolve(t.Context(), "app", "v2"); err == nil {
		t.Errorf("v2 is %s, of a push that was denied", d.Digest)
	}
	for _, p := range []oci.Put{{Tags: []string{"latest"}}, {Tags: []string{"v2"}}, {Tags: []string{"latest", "v2"}}} {
		if err := put("2", p); err != nil {
			t.Errorf("%v: %v", p.Tags, err)
		}
	}
	if err := put("3", oci.Put{Tags: []string{"latest"}, Fixed: []string{"latest"}}); !errors.Is(err, oci.TagExists) || errors.Is(err, oci.Denied) {
		t.Errorf("what was fixed before is fixed still: %v", err)
	}
}

// A robot for some tags.
func TestGuardOfTags(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "app")
	ci := &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci app:dev-* push,delete")}, Ruled: true}
	g := as(guarded(t, reg, "user:alice ** all"), ci)
	for tags, want := range map[string]bool{"dev-1": true, "dev-1 dev-2": true, "dev-1 v1": false, "v1": false, "latest": false, "": true} {
		err := putIndex(t.Context(), g, "app", "x", oci.Put{Tags: strings.Fields(tags)})
		if (err == nil) != want || err != nil && !errors.Is(err, oci.Denied) {
			t.Errorf("push %s: %v", tags, err)
		}
	}
	if err := g.DeleteTag(t.Context(), "app", "dev-1", ""); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"v1": g.DeleteTag(t.Context(), "app", "v1", ""), "image": g.DeleteManifest(t.Context(), "app", digests["image"]),
		"blob": g.DeleteBlob(t.Context(), "app", digests["layer"]), "repository": g.DeleteRepo(t.Context(), "app"),
	} {
		if !errors.Is(err, oci.Denied) {
			t.Errorf("delete %s: %v", what, err)
		}
	}
}

// What has a tag that must stay is not deleted by other names.
func TestGuardDeletesNoTagThatStays(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	content := ocitest.Content{}
	for _, repo := range []string{"app", "other"} {
		content[repo] = ocitest.Repo{
			Blobs:     ocitest.Blobs{"layer": "bytes"},
			Manifests: ocitest.Manifests{"kept": {Layers: "layer"}, "free": {}, "none": {Platform: "linux/arm64"}},
			Tags:      ocitest.Tags{"v1": "kept", "latest": "kept", "dev": "free"},
		}
	}
	delete(content["other"].Tags, "v1")
	digests := ocitest.Push(t, reg, content)
	g := as(guarded(t, reg, "all **:v* !delete", "all ** all"), user("alice"))
	if err := g.DeleteManifest(t.Context(), "app", digests["kept"]); !errors.Is(err, oci.Denied) || !strings.Contains(err.Error(), "rule 1") {
		t.Errorf("by digest: %v", err)
	}
	if err := g.DeleteRepo(t.Context(), "app"); !errors.Is(err, oci.Denied) {
		t.Errorf("with its repository: %v", err)
	}
	if _, err := reg.Resolve(t.Context(), "app", "v1"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"free", "none"} {
		if err := g.DeleteManifest(t.Context(), "app", digests[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := g.DeleteManifest(t.Context(), "other", digests["kept"]); err != nil {
		t.Error(err)
	}
	if err := g.DeleteRepo(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	// What anybody may a robot may, and no more of it by a digest.
	g = as(guarded(t, reg, "anonymous **:v* !delete", "anonymous ** delete"), &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci x pull")}, Ruled: true})
	if err := g.DeleteManifest(t.Context(), "app", digests["kept"]); !errors.Is(err, oci.Denied) {
		t.Errorf("by a robot: %v", err)
	}
	for what, err := range map[string]error{
		"manifest": g.DeleteManifest(t.Context(), "app", digests["none"]), "repository": g.DeleteRepo(t.Context(), "absent"),
	} {
		if errors.Is(err, oci.Denied) || err == nil {
			t.Errorf("%s that is not there: %v", what, err)
		}
	}
}

// The tags of a manifest are asked for at once where that can be.
func TestGuardAsksForTheTagsOfAManifest(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "app")
	var tags []string
	var failed error
	g := as(Guard(&ocitest.Funcs{Registry: reg, OnTags: func(context.Context, string, string) iter.Seq2[string, error] {
		t.Error("all tags are looked at")
		return func(func(string, error) bool) {}
	}}, NewRules(policy(t, "all **:v* !delete", "all ** all")), GuardOptions{TagsOf: func(_ context.Context, repo string, d oci.Digest) ([]string, error) {
		if repo != "app" || d != digests["image"] {
			t.Errorf("asked for %s of %s", d, repo)
		}
		return tags, failed
	}}), user("alice"))
	for _, tags = range [][]string{{"v1"}, {"latest", "v1"}, {"v1", "latest"}} {
		if err := g.DeleteManifest(t.Context(), "app", digests["image"]); !errors.Is(err, oci.Denied) {
			t.Errorf("%v: %v", tags, err)
		}
	}
	tags, failed = []string{"latest"}, errors.New("disk on fire")
	if err := g.DeleteManifest(t.Context(), "app", digests["image"]); !errors.Is(err, failed) {
		t.Error(err)
	}
	failed = nil
	if err := g.DeleteManifest(t.Context(), "app", digests["image"]); err != nil {
		t.Error(err)
	}
}

// No tag comes between the look at the tags and the deletion.
func TestGuardDeletesNoTagThatComes(t *testing.T) {
	t.Parallel()
	reg, digests := stocked(t, "app")
	var g *guard
	var seen []string
	in := &ocitest.Funcs{Registry: reg}
	in.OnTags = func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
		seen = append(seen, "tags")
		if tags := g.tagLock(repo); tags.TryRLock() {
			tags.RUnlock()
			t.Error("a tag may come now")
		}
		return reg.Tags(ctx, repo, after)
	}
	in.OnPutManifest = func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
		seen = append(seen, "put")
		if tags := g.tagLock(repo); tags.TryLock() {
			tags.Unlock()
			t.Error("a deletion may look at the tags now")
		}
		return reg.PutManifest(ctx, repo, p)
	}
	deleted := func(repo string) {
		seen = append(seen, "delete")
		if tags := g.tagLock(repo); tags.TryRLock() {
			tags.RUnlock()
			t.Error("a tag may come now")
		}
	}
	in.OnDeleteManifest = func(ctx context.Context, repo string, d oci.Digest) error {
		deleted(repo)
		return reg.DeleteManifest(ctx, repo, d)
	}
	in.OnDeleteRepo = func(ctx context.Context, repo string) error {
		deleted(repo)
		return reg.DeleteRepo(ctx, repo)
	}
	g = guarded(t, in, "all **:v2 !delete", "all ** all").(*guard)
	alice := as(g, user("alice"))
	for _, err := range []error{
		putIndex(t.Context(), alice, "app", "1", oci.Put{Tags: []string{"v3"}}),
		alice.DeleteManifest(t.Context(), "app", digests["image"]), alice.DeleteRepo(t.Context(), "app"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := "[put tags delete tags delete]"; fmt.Sprint(seen) != want {
		t.Errorf("got %v, want %s", seen, want)
	}
}

// names is a registry of repositories that are there in name only. It counts
// what is looked at.
type names struct {
	oci.Registry
	sorted []string
	looked int
}

func (n *names) Repos(_ context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		i, found := slices.BinarySearch(n.sorted, after)
		if found {
			i++
		}
		for _, name := range n.sorted[i:] {
			if n.looked++; !yield(name, nil) {
				return
			}
		}
	}
}

func list(t testing.TB, reg oci.Registry, after string, most int) []string {
	t.Helper()
	var all []string
	for name, err := range reg.Repos(t.Context(), after) {
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, name); len(all) == most {
			break
		}
	}
	return all
}

func TestGuardListsWhatMayBeSeen(t *testing.T) {
	t.Parallel()
	reg := &names{sorted: []string{"a", "alice/x", "alicex", "java/a", "java/b/c", "jav", "java", "java-x/a", "java.x", "java0", "php/a", "php/b", "zoo"}}
	slices.Sort(reg.sorted)
	for _, c := range []struct {
		rules []string
		s     *Session
		want  string
	}{
		{[]string{"all ** list"}, user("alice"), strings.Join(reg.sorted, " ")},
		{[]string{"all java/** list"}, user("alice"), "java/a java/b/c"},
		{[]string{"all java/* list", "all ${user}/** list"}, user("alice"), "alice/x java/a"},
		{[]string{"all java list", "group:php php/** list"}, user("alice", "php"), "java php/a php/b"},
		{[]string{"all java/a !list", "all java/** all"}, user("alice"), "java/b/c"},
		{[]string{"all **/a list"}, user("alice"), "java-x/a java/a php/a"},
		{[]string{"all ** !list", "all java/** list"}, user("alice"), "DENIED"},
		{[]string{"all ** pull,push,delete"}, user("alice"), "DENIED"},
		{[]string{"user:bob ** list"}, user("alice"), "DENIED"},
		{[]string{"all ** list"}, scoped(user("alice"), "repository:a:*"), "DENIED"},
		{[]string{"all a list"}, scoped(user("alice"), "registry:catalog:*"), "a"},
		{nil, &Session{Scoped: true, Scope: scoped(user(""), "registry:catalog:*").Scope}, strings.Join(reg.sorted, " ")},
		{[]string{"user:bob ** all"}, &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci php/** list")}, Ruled: true}, "php/a php/b"},
		{[]string{"anonymous java/** list"}, &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci php/** list")}, Ruled: true}, "java/a java/b/c php/a php/b"},
		{[]string{"all php/a !list", "all ** list"}, &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci php/** list")}, Ruled: true}, "php/b"},
		{[]string{"all java/*:v* !overwrite", "all php/a list"}, user("alice"), "php/a"},
	} {
		g := as(guarded(t, reg, c.rules...), c.s)
		if c.want == "DENIED" {
			if err := first(g.Repos(t.Context(), "")); !errors.Is(err, oci.Denied) {
				t.Errorf("%v: %v", c.rules, err)
			}
			continue
		}
		want := strings.Fields(c.want)
		if got := list(t, g, "", 0); !slices.Equal(got, want) {
			t.Errorf("%v: got %v, want %v", c.rules, got, want)
			continue
		}
		// By pages of every size, from every name and between them.
		for n := 1; n <= len(want); n++ {
			var got []string
			for after := ""; ; after = got[len(got)-1] {
				page := list(t, g, after, n)
				if len(page) == 0 {
					break
				}
				got = append(got, page...)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v: by %d got %v, want %v", c.rules, n, got, want)
			}
		}
		for _, after := range append([]string{"", "j", "java/", "java0x", "~"}, reg.sorted...) {
			i, found := slices.BinarySearch(want, after)
			if found {
				i++
			}
			if got := list(t, g, after, 0); !slices.Equal(got, want[i:]) {
				t.Errorf("%v: after %q got %v, want %v", c.rules, after, got, want[i:])
			}
		}
	}
}

// TestGuardListsAsItDecides holds the catalogue against the answer for each
// name, with rules at random.
func TestGuardListsAsItDecides(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(6, 6))
	var all []string
	for _, a := range []string{"a", "b", "ab", "a-b", "a.b"} {
		all = append(all, a)
		for _, b := range []string{"a", "b", "a/b", "ab"} {
			all = append(all, a+"/"+b)
		}
	}
	slices.Sort(all)
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	for range 300 {
		var rules []string
		for range 1 + random.IntN(5) {
			what := pick(append([]string{"**", "a/**", "a*", "*", "**/b", "*/a", "a-b/*", "${user}/**", "/a.*/", "/(a|b)/.*/"}, all...)...)
			rules = append(rules, pick("all", "user:a", "user:b", "group:g")+" "+what+" "+pick("", "", "!")+pick("list", "all", "pull"))
		}
		s := user("a", "g")
		p := policy(t, rules...)
		var want []string
		if random.IntN(2) == 0 {
			s = &Session{Identity: Identity{Kind: rule.Robot, Name: "a", Limit: policy(t, "robot:a a/** list", "robot:a a-b list", "robot:a ab/* list")}, Ruled: true}
			p = policy(t, append(rules, "anonymous "+pick("a/**", "b", "**/a", "ab/b")+" list", "robot:a */b !list")...)
		}
		for _, name := range all {
			if s.Decide(t.Context(), p, name, "", rule.List).Allowed {
				want = append(want, name)
			}
		}
		g := as(Guard(&names{sorted: all}, NewRules(p), GuardOptions{}), s)
		err := first(g.Repos(t.Context(), ""))
		if errors.Is(err, oci.Denied) && len(want) == 0 {
			continue
		}
		if got := list(t, g, "", 0); !slices.Equal(got, want) {
			t.Errorf("%q:\n got %v\nwant %v", rules, got, want)
		}
	}
}

// thousands are the names of 100,000 repositories.
func thousands() *names {
	reg := &names{}
	for team := range 1000 {
		for app := range 100 {
			reg.sorted = append(reg.sorted, fmt.Sprintf("team%03d/app%02d", team, app))
		}
	}
	return reg
}

// Who sees ten of 100,000 repositories looks at no more than some.
func TestGuardListsCheaply(t *testing.T) {
	t.Parallel()
	reg := thousands()
	g := as(guarded(t, reg, "all team500/app0* list", "all team6/** list", "user:bob ** all"), user("alice"))
	if got := list(t, g, "", 0); len(got) != 10 || reg.looked > 30 {
		t.Errorf("got %v, and looked at %d", got, reg.looked)
	}
}

func BenchmarkGuardListsTenOf100000(b *testing.B) {
	reg := thousands()
	g := as(guarded(b, reg, "all team500/app0* list", "user:bob ** all"), user("alice"))
	for b.Loop() {
		if got := list(b, g, "", 100); len(got) != 10 {
			b.Fatal(got)
		}
	}
}

func BenchmarkGuardResolve(b *testing.B) {
	reg := &ocitest.Funcs{OnResolve: func(context.Context, string, string) (oci.Descriptor, error) { return oci.Descriptor{}, nil }}
	for name, g := range map[string]oci.Registry{"open": reg, "guarded": guarded(b, reg, "anonymous ** pull", "all ** all")} {
		b.Run(name, func(b *testing.B) {
			ctx := WithSession(oci.WithCaller(b.Context(), oci.Caller{Addr: "192.0.2.1"}), scoped(user("alice"), "repository:team/app:pull"))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Resolve(ctx, "team/app", "latest"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestDecide(t *testing.T) {
	t.Parallel()
	limit := policy(t, "robot:ci app pull,push", "robot:ci lib pull")
	ci := &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: limit}, Ruled: true}
	elsewhere := &Session{Identity: Identity{Kind: rule.User, Name: "alice"}, Scoped: true}
	for _, c := range []struct {
		name  string
		s     *Session
		rules []string
		want  string // Of pull, push, overwrite, delete.
	}{
		{"the rules decide", user("alice"), []string{"user:alice app pull"}, "pull"},
		{"the limit decides if no rule does", ci, []string{"user:alice ** all"}, "pull push overwrite"},
		{"a rule allows within the limit", ci, []string{"all ** all"}, "pull push overwrite"},
		{"a rule denies what the limit allows", ci, []string{"robot:ci app !push", "all ** all"}, "pull"},
		{"what anybody may a robot may", ci, []string{"anonymous ** pull,delete", "all ** all"}, "pull push overwrite delete"},
		{"but not what a rule denies it", ci, []string{"robot:ci ** !delete", "anonymous ** delete"}, "pull push overwrite"},
		{"a rule denies overwriting", ci, []string{"everyone app !overwrite"}, "pull push"},
		{"a token limits", scoped(user("alice"), "repository:app:pull"), []string{"all ** all"}, "pull"},
		{"a token allows nothing", scoped(user("alice"), "repository:app:*"), []string{"all ** pull"}, "pull"},
		{"a token of a robot", scoped(ci, "repository:app:pull,delete"), []string{"all ** all"}, "pull"},
		{"a token from elsewhere decides alone", scoped(elsewhere, "repository:app:pull,delete"), nil, "pull delete"},
		{"it may do nothing with none", elsewhere, []string{"all ** all"}, ""},
		{"who is nobody is asked by the rules", &Session{}, []string{"all ** all"}, ""},
		{"anonymous", &Session{}, []string{"anonymous app pull"}, "pull"},
	} {
		var got []string
		for _, a := range []rule.Action{rule.Pull, rule.Push, rule.Overwrite, rule.Delete} {
			d := c.s.Decide(t.Context(), policy(t, c.rules...), "app", "", a)
			if d.Allowed {
				got = append(got, a.String())
			}
			if d.Reason == "" {
				t.Errorf("%s: no reason for %s", c.name, a)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
}

// Rules about addresses are held against that of the caller, in every form.
func TestDecideByAddress(t *testing.T) {
	t.Parallel()
	p, err := rule.Compile([]rule.Rule{{Who: []string{"everyone"}, What: []string{"**"}, May: []string{"pull"}, From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fe80::/10")}}})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.3.7": false, "": false, "@": false, "fe80::1%eth0": true, "2001:db8::1": false, "192.0.2.7:80": false} {
		ctx := oci.WithCaller(t.Context(), oci.Caller{Addr: addr})
		if got := user("alice").Decide(ctx, p, "app", "", rule.Pull).Allowed; got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}

func TestGrant(t *testing.T) {
	t.Parallel()
	p := policy(t, "all locked:v* !overwrite,delete", "all locked pull,push,delete", "anonymous app pull", "user:alice app pull,push", "user:alice tags:dev-* push,delete", "all full all", "all app list")
	ci := &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci app pull,push")}, Ruled: true}
	for _, c := range []struct {
		s           *Session
		asked, want string
	}{
		{&Session{}, "repository:app:pull,push", "repository:app:pull"},
		{user("alice"), "repository:app:pull,push", "repository:app:pull,push"},
		{user("alice"), "repository:app:push", "repository:app:push"},
		{user("alice"), "repository:app:delete", ""},
		{user("alice"), "repository:app:*", "repository:app:pull,push"},
		{user("alice"), "repository:full:*", "repository:full:pull,push,delete,*"},
		{user("alice"), "repository:tags:pull,push,delete", "repository:tags:push,delete"},
		{user("alice"), "repository:locked:delete", "repository:locked:delete"},
		{user("alice"), "repository:other:pull repository:app:pull", "repository:app:pull"},
		{user("alice"), "registry:catalog:*", "registry:catalog:*"},
		{user("alice"), "registry:deletions:*", "registry:deletions:*"},
		{user("alice"), "registry:catalog:pull registry:other:* wiki:app:pull repository:App:pull repository::pull", ""},
		{&Session{}, "registry:catalog:* registry:deletions:*", ""},
		{user("bob"), "repository:app:list,overwrite,all", ""},
		{ci, "repository:app:pull,push,delete repository:full:pull", "repository:app:pull,push"},
		{ci, "registry:catalog:*", ""},
	} {
		asked := scoped(user(""), strings.Fields(c.asked)...).Scope
		was := fmt.Sprint(asked)
		granted := c.s.Grant(p, netip.Addr{}, asked)
		var got []string
		for _, a := range granted {
			got = append(got, a.Type+":"+a.Name+":"+strings.Join(a.Actions, ","))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s asks for %s: got %s, want %s", c.s, c.asked, got, c.want)
		}
		if fmt.Sprint(asked) != was {
			t.Error("what was asked for was changed")
		}
	}
}

// Where nobody asks about tags, who may do it with some may not do it.
func TestGrantElsewhere(t *testing.T) {
	t.Parallel()
	p := policy(t, "all **:v* !delete,overwrite", "user:alice app:dev-* push,delete", "user:alice app pull", "user:bob ** all")
	for _, c := range []struct {
		s    *Session
		want string
	}{{user("alice"), "[{repository  app [pull]}]"}, {user("bob"), "[{repository  app [pull push]}]"}} {
		asked := scoped(user(""), "repository:app:*").Scope
		if got := fmt.Sprint(c.s.GrantElsewhere(p, netip.Addr{}, asked)); got != c.want {
			t.Errorf("%s: got %s, want %s", c.s, got, c.want)
		}
	}
}

// A catalogue elsewhere shows all that is in it: who may see a part gets none.
func TestGrantElsewhereCatalogue(t *testing.T) {
	t.Parallel()
	robot := func(scope string) *Session {
		return &Session{Identity: Identity{Kind: rule.Robot, Name: "ci", Limit: policy(t, "robot:ci "+scope)}, Ruled: true}
	}
	for _, c := range []struct {
		s     *Session
		rules string // With a bar between them.
		asked string
		want  bool
	}{
		{user("alice"), "all ** list", "catalog", true},
		{user("alice"), "all java/** list", "catalog", false},
		{user("alice"), "all secret/** !list|all ** list", "catalog", false},
		{user("alice"), "all java/** list|all ** list|all secret/** !list", "catalog", true},
		{user("alice"), "group:php secret/** !all|all ** list", "catalog", true},
		{user("alice", "php"), "group:php secret/** !all|all ** list", "catalog", false},
		{user("alice"), "all /.*/ list", "catalog", false},
		{user("alice"), "all **:v* !delete|all ** all", "deletions", false},
		{user("alice"), "all ** all", "deletions", true},
		{&Session{Ruled: true}, "anonymous ** pull|all ** all", "catalog", false},
		{robot("** list"), "user:alice ** list", "catalog", true},
		{robot("** list"), "all ** list", "catalog", true},
		{robot("** list"), "all secret/** !list", "catalog", false},
		{robot("php/** list"), "all ** list", "catalog", false},
	} {
		p := policy(t, strings.Split(c.rules, "|")...)
		asked := []Access{{Type: "registry", Name: c.asked, Actions: []string{"*"}}}
		if got := len(c.s.GrantElsewhere(p, netip.Addr{}, asked)) > 0; got != c.want {
			t.Errorf("%s %s, rules %s: got %s: %t, want %t", c.s, c.s.Groups, c.rules, c.asked, got, c.want)
		}
	}
}

// A push that is denied is denied before anything is sent.
func TestPermit(t *testing.T) {
	t.Parallel()
	g := guarded(t, untouchable(t), "user:alice app:dev-* push", "user:bob app:v1 !push", "user:bob ** push").(*guard)
	for _, c := range []struct {
		s    *Session
		repo string
		want bool
	}{
		{user("alice"), "app", true}, {user("alice"), "other", false}, {user("bob"), "app", true}, {user("carol"), "app", false},
		{scoped(user("bob"), "repository:app:pull"), "app", false}, {scoped(user("bob"), "repository:app:push"), "app", true},
	} {
		if err := g.Permit(WithSession(t.Context(), c.s), c.repo); (err == nil) != c.want {
			t.Errorf("%s in %s: %v", c.s, c.repo, err)
		}
	}
	if err := g.Permit(t.Context(), "app"); !errors.Is(err, oci.Denied) {
		t.Error(err)
	}
}

func TestDeletionsAreSeenByWhoMightHaveMadeThem(t *testing.T) {
	t.Parallel()
	rules := NewRules(policy(t, "user:alice php/** delete", "user:alice java/x:dev-* delete", "user:alice php/a pull", "user:bob ** pull,push,list"))
	sees, reads, err := rules.Deletions(WithSession(t.Context(), user("alice")))
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]bool{"php/a:v1": true, "php/a:": true, "java/x:dev-1": true, "java/x:v1": false, "java/x:": false, "other:v1": false} {
		repo, tag, _ := strings.Cut(what, ":")
		if sees(repo, tag) != want {
			t.Errorf("%s: %v", what, !want)
		}
	}
	if !reads("php/a") || reads("php/b") {
		t.Errorf("alice reads php/a: %v, php/b: %v", reads("php/a"), reads("php/b"))
	}
	for name, s := range map[string]*Session{"may not delete": user("bob"), "too narrow": scoped(user("alice"), "repository:php/a:delete"), "nobody": nil} {
		ctx := t.Context()
		if s != nil {
			ctx = WithSession(ctx, s)
		}
		if _, _, err := rules.Deletions(ctx); !errors.Is(err, oci.Denied) {
			t.Errorf("%s: %v", name, err)
		} else if name == "too narrow" && needed(t, err) != "registry:deletions:*" {
			t.Errorf("it needs %s", needed(t, err))
		}
	}
	if _, _, err := rules.Deletions(WithSession(t.Context(), scoped(user("alice"), "registry:deletions:*"))); err != nil {
		t.Error(err)
	}
}
