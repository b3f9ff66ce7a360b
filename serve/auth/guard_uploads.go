package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth/rule"
)

// MountBlob implements [oci.Writer]. A source that the caller may not pull is
// as one that is not there. An empty one is only repo itself: a token is not
// for what was not named.
func (g *guard) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	c, err := g.asker(ctx)
	if err != nil {
		return nil, err
	}
	if from == "" {
		from = repo
	}
	need := c.needs(repo, rule.Push)
	if from != repo {
		need = append(need, Access{Type: typeRepository, Name: from, Actions: []string{actionPull}})
	}
	if push := c.decide(c.policy, c.addr, repo, "", rule.Push); !push.Allowed {
		return nil, c.deny(ctx, push, repo, "", rule.Push)
	}
	pull := from == repo || c.decide(c.policy, c.addr, from, "", rule.Pull).Allowed
	if !c.covers(repo, rule.Push) || pull && from != repo && !c.covers(from, rule.Pull) {
		return nil, narrow(need...)
	}
	if !pull {
		from = repo
	}
	if !c.decide(c.policy, c.addr, repo, "", rule.Pull).Allowed { // What is there is not to be found out.
		return c.signed(repo)(g.reg.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: algorithmOf(d)}))
	}
	return c.signed(repo)(g.reg.MountBlob(ctx, repo, from, d))
}

func algorithmOf(d oci.Digest) digest.Algorithm {
	if d, err := oci.ParseDigest(string(d)); err == nil {
		return d.Algorithm()
	}
	return ""
}

// Upload implements [oci.Writer].
func (g *guard) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	c, err := g.asker(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.mayUpload(ctx, repo, id); err != nil {
		return nil, err
	}
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	if id != "" {
		inner, ok := g.ids.open(c.Identity, repo, id)
		if !ok {
			return nil, &oci.Error{Code: oci.BlobUploadUnknown, Message: fmt.Sprintf("no upload %.40q in %s; begin again", id, repo)}
		}
		id = inner
	}
	return c.signed(repo)(g.reg.Upload(ctx, repo, id, o))
}

// mayUpload returns nil if c may begin an upload to repo, or go on with id. To
// look how far that is a token for pulling will do, as in registry:2: for a GET
// clients ask for no other.
func (c *asker) mayUpload(ctx context.Context, repo, id string) error {
	d := c.decide(c.policy, c.addr, repo, "", rule.Push)
	looks := id != "" && (c.caller.Method == http.MethodGet || c.caller.Method == http.MethodHead)
	switch {
	case !d.Allowed:
		return c.deny(ctx, d, repo, "", rule.Push)
	case c.covers(repo, rule.Push), looks && c.covers(repo, rule.Pull):
		return nil
	}
	return narrow(c.needs(repo, rule.Push)...)
}

// signed gives an upload to repo an id that only c can go on with.
func (c *asker) signed(repo string) func(oci.Upload, error) (oci.Upload, error) {
	return func(up oci.Upload, err error) (oci.Upload, error) {
		if up == nil || err != nil {
			return nil, err
		}
		return &guardedUpload{up, c.guard.ids.seal(c.Identity, repo, up.ID())}, nil
	}
}

// guardedUpload is an upload that belongs to somebody.
type guardedUpload struct {
	up oci.Upload
	id string
}

func (u *guardedUpload) ID() string                             { return u.id }
func (u *guardedUpload) Size() int64                            { return u.up.Size() }
func (u *guardedUpload) Write(p []byte) (int, error)            { return u.up.Write(p) }
func (u *guardedUpload) ReadFrom(from io.Reader) (int64, error) { return u.up.ReadFrom(from) }
func (u *guardedUpload) Cancel(ctx context.Context) error       { return u.up.Cancel(ctx) }
func (u *guardedUpload) Close() error                           { return u.up.Close() }
func (u *guardedUpload) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	return u.up.Commit(ctx, d)
}

// uploadIDs are ids of uploads with a proof of who began them.
type uploadIDs struct{ key []byte }

// proofSize is how much of the sum is in an id. It is not to be guessed within
// the life of an upload.
const proofSize = 16

func newUploadIDs(secret []byte) *uploadIDs {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("regctl upload id 1"))
	return &uploadIDs{mac.Sum(nil)}
}

// seal returns the id of an upload for who began it in repo.
func (u *uploadIDs) seal(who Identity, repo, id string) string {
	return id + "." + base64.RawURLEncoding.EncodeToString(u.proof(who, repo, id))
}

// open returns the id of an upload that was sealed for who in repo.
func (u *uploadIDs) open(who Identity, repo, sealed string) (id string, ok bool) {
	dot := strings.LastIndexByte(sealed, '.')
	if dot <= 0 {
		return "", false
	}
	id = sealed[:dot]
	want := u.seal(who, repo, id)
	return id, hmac.Equal([]byte(want), []byte(sealed))
}

func (u *uploadIDs) proof(who Identity, repo, id string) []byte {
	mac := hmac.New(sha256.New, u.key)
	text := []byte{byte(who.Kind)}
	for _, part := range [...]string{who.Name, repo, id} {
		text = binary.LittleEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	mac.Write(text)
	return mac.Sum(nil)[:proofSize]
}
