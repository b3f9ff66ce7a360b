package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// remote is the registry at the other end of a connection, as plainly as the
// protocol tells it. A handle on an upload claims it for one request only.
type remote struct{ base string }

var _ oci.Registry = remote{}

// ask sends a request; headers are names and values by turns. An error that
// was answered has its code.
func (r remote) ask(ctx context.Context, method, path string, body []byte, headers ...string) (answer, error) {
	q, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			q.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := client.RoundTrip(q)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{res.StatusCode, res.Header, string(data)}
	switch {
	case a.status < 300:
		return a, nil
	case method == http.MethodHead: // It tells no code.
		return r.ask(ctx, http.MethodGet, path, nil, headers...)
	}
	return a, oci.UnmarshalError(a.status, data)
}

func check(repo string, digests ...oci.Digest) error {
	err := oci.CheckRepo(repo)
	for _, d := range digests {
		if err == nil {
			_, err = oci.ParseDigest(string(d))
		}
	}
	return err
}

func described(a answer) (oci.Descriptor, error) {
	var size int64
	_, err := fmt.Sscan(a.header.Get("Content-Length"), &size)
	return oci.Descriptor{MediaType: a.header.Get("Content-Type"), Digest: oci.Digest(a.header.Get("Docker-Content-Digest")), Size: size}, err
}

func (r remote) manifest(ctx context.Context, method, repo, ref string) (answer, oci.Descriptor, error) {
	if err := check(repo); err != nil {
		return answer{}, oci.Descriptor{}, err
	}
	if err := oci.CheckRef(ref); err != nil {
		return answer{}, oci.Descriptor{}, err
	}
	a, err := r.ask(ctx, method, "/v2/"+repo+"/manifests/"+ref, nil)
	if err != nil {
		return answer{}, oci.Descriptor{}, err
	}
	d, err := described(a)
	return a, d, err
}

func (r remote) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	_, d, err := r.manifest(ctx, http.MethodHead, repo, ref)
	return d, err
}

func (r remote) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	a, d, err := r.manifest(ctx, http.MethodGet, repo, ref)
	return oci.Manifest{Descriptor: d, Raw: []byte(a.body)}, err
}

func (r remote) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	if err := check(repo, d); err != nil {
		return oci.Descriptor{}, err
	}
	a, err := r.ask(ctx, http.MethodHead, "/v2/"+repo+"/blobs/"+string(d), nil)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return described(a)
}

type wholeBlob struct{ *bytes.Reader }

func (wholeBlob) Close() error { return nil }

func (r remote) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if err := check(repo, d); err != nil {
		return oci.BlobReader{}, err
	}
	a, err := r.ask(ctx, http.MethodGet, "/v2/"+repo+"/blobs/"+string(d), nil)
	if err != nil {
		return oci.BlobReader{}, err
	}
	desc, err := described(a)
	return oci.BlobReader{ReadSeekCloser: wholeBlob{bytes.NewReader([]byte(a.body))}, Descriptor: desc}, err
}

func (r remote) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	d := p.Digest
	if d == "" {
		d = digest.FromBytes(p.Raw)
	}
	if err := check(repo, d); err != nil {
		return oci.Descriptor{}, err
	}
	for _, tag := range p.Tags {
		if err := oci.CheckTag(tag); err != nil {
			return oci.Descriptor{}, err
		}
	}
	if kept := slices.DeleteFunc(slices.Clone(p.Tags), func(tag string) bool { return !p.Keeps(tag) }); len(kept) > 0 && len(kept) < len(p.Tags) {
		first := p // A condition is on all tags of a request.
		first.Tags = kept
		if desc, err := r.PutManifest(ctx, repo, first); err != nil {
			return desc, err
		}
		p.Tags, p.Fixed = slices.DeleteFunc(slices.Clone(p.Tags), p.Keeps), nil
	}
	headers := []string{"Content-Type", p.MediaType, "If-None-Match", ""}
	if p.NoOverwrite || len(p.Fixed) > 0 {
		headers[3] = "*"
	}
	path := "/v2/" + repo + "/manifests/" + string(d)
	if len(p.Tags) > 0 {
		path += "?" + url.Values{"tag": p.Tags}.Encode()
	}
	a, err := r.ask(ctx, http.MethodPut, path, p.Raw, headers...)
	if err != nil {
		return oci.Descriptor{}, err
	}
	desc := oci.Descriptor{Digest: oci.Digest(a.header.Get("Docker-Content-Digest")), Size: int64(len(p.Raw))}
	g, err := oci.ParseManifest(p.MediaType, p.Raw)
	if err == nil {
		desc.MediaType = g.MediaType
	}
	return desc, err
}

func (r remote) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	err := check(repo, d)
	if from != "" && err == nil {
		err = check(from)
	}
	if err != nil {
		return nil, err
	}
	query := url.Values{"mount": {string(d)}}
	if from != "" {
		query.Set("from", from)
	}
	a, err := r.ask(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?"+query.Encode(), nil)
	if err != nil || a.status == http.StatusCreated {
		return nil, err
	}
	return r.handle(a), nil
}

func (r remote) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if err := check(repo); err != nil {
		return nil, err
	}
	var a answer
	var err error
	if id != "" {
		if err := checkUploadID(id); err != nil {
			return nil, err
		}
		a, err = r.ask(ctx, http.MethodGet, "/v2/"+repo+"/blobs/uploads/"+id, nil)
	} else {
		a, err = r.ask(ctx, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?"+url.Values{"digest-algorithm": {string(o.Algorithm)}}.Encode(), nil)
	}
	if err != nil {
		return nil, err
	}
	return r.handle(a), nil
}

// handle is what an answer tells of an upload. It takes a range of "0-0" for
// no byte: one byte looks the same.
func (r remote) handle(a answer) *remoteUpload {
	u := &remoteUpload{r: r, at: a.header.Get("Location")}
	if last := strings.TrimPrefix(a.header.Get("Range"), "0-"); last != "0" {
		_, _ = fmt.Sscan(last, &u.size)
		u.size++
	}
	return u
}

type remoteUpload struct {
	r     remote
	at    string
	size  int64
	ended bool
}

func (u *remoteUpload) ID() string { return u.at[strings.LastIndexByte(u.at, '/')+1:] }

func (u *remoteUpload) Size() int64 { return u.size }

func (u *remoteUpload) send(ctx context.Context, method, query string, p []byte) (answer, error) {
	if u.ended {
		return answer{}, oci.BlobUploadUnknown
	}
	place := ""
	if len(p) > 0 {
		place = fmt.Sprintf("%d-%d", u.size, u.size+int64(len(p))-1)
	}
	return u.r.ask(ctx, method, u.at+query, p, "Content-Range", place)
}

func (u *remoteUpload) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, u.same(context.Background())
	}
	if _, err := u.send(context.Background(), http.MethodPatch, "", p); err != nil {
		return 0, err
	}
	u.size += int64(len(p))
	return len(p), nil
}

func (u *remoteUpload) ReadFrom(from io.Reader) (int64, error) {
	data, readErr := io.ReadAll(from)
	n, err := u.Write(data)
	if err == nil {
		err = readErr
	}
	return int64(n), err
}

func (u *remoteUpload) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return oci.Descriptor{}, err
	}
	if err := u.same(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	_, err := u.send(ctx, http.MethodPut, "?digest="+string(d), nil)
	u.ended = true
	return oci.Descriptor{Digest: d, Size: u.size}, err
}

// same fails unless the upload is still where this handle saw it: a request
// without a body has no place to be refused for.
func (u *remoteUpload) same(ctx context.Context) error {
	a, err := u.send(ctx, http.MethodGet, "", nil)
	if err != nil {
		return err
	}
	if size := u.r.handle(a).size; size != u.size && (size != 0 || u.size != 1) {
		return oci.RangeInvalid
	}
	return nil
}

func (u *remoteUpload) Cancel(ctx context.Context) error {
	if u.ended {
		return nil
	}
	if err := u.same(ctx); err != nil {
		return err
	}
	_, err := u.send(ctx, http.MethodDelete, "", nil)
	u.ended = true
	return err
}

func (u *remoteUpload) Close() error { u.ended = true; return nil }

func (r remote) delete(ctx context.Context, err error, path string, headers ...string) error {
	if err == nil {
		_, err = r.ask(ctx, http.MethodDelete, path, nil, headers...)
	}
	return err
}

func (r remote) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	err := check(repo)
	match := ""
	if was != "" {
		err, match = check(repo, was), etag(was)
	}
	if tagErr := oci.CheckTag(tag); err == nil && tagErr != nil {
		err = tagErr
	}
	return r.delete(ctx, err, "/v2/"+repo+"/manifests/"+tag, "If-Match", match)
}

func (r remote) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	return r.delete(ctx, check(repo, d), "/v2/"+repo+"/manifests/"+string(d))
}

func (r remote) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	return r.delete(ctx, check(repo, d), "/v2/"+repo+"/blobs/"+string(d))
}

func (r remote) DeleteRepo(ctx context.Context, repo string) error {
	return r.delete(ctx, check(repo), "/v2/"+repo)
}

// pages follows a list from page to page and yields what it has under key.
func pages[T any](ctx context.Context, r remote, err error, path, key string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		for at := path; err == nil && at != ""; {
			a, askErr := r.ask(ctx, http.MethodGet, at, nil)
			page, items := map[string]json.RawMessage{}, []T{}
			if askErr == nil {
				askErr = json.Unmarshal([]byte(a.body), &page)
			}
			if askErr == nil {
				askErr = json.Unmarshal(page[key], &items)
			}
			if askErr != nil {
				yield(zero, askErr)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			at, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
		}
		if err != nil {
			yield(zero, err)
		}
	}
}

// names lists names from after on, which may be none that the server takes.
func (r remote) names(ctx context.Context, err error, path, key, after string, name func(string) error) iter.Seq2[string, error] {
	query := url.Values{"n": {"2"}}
	if name(after) == nil {
		query.Set("last", after)
	}
	return func(yield func(string, error) bool) {
		for name, err := range pages[string](ctx, r, err, path+"?"+query.Encode(), key) {
			if (err != nil || name > after) && !yield(name, err) {
				return
			}
		}
	}
}

func (r remote) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return r.names(ctx, nil, "/v2/_catalog", "repositories", after, oci.CheckRepo)
}

func (r remote) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return r.names(ctx, check(repo), "/v2/"+repo+"/tags/list", "tags", after, oci.CheckTag)
}

func (r remote) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return func(yield func(oci.TagDetail, error) bool) {
		query := url.Values{"n": {"2"}, "last": {after}}.Encode()
		for d, err := range pages[detailJSON](ctx, r, check(repo), "/v2/"+repo+"/_regctl/tags?"+query, "tags") {
			detail := oci.TagDetail{
				Tag: d.Tag, Size: d.Size, Platforms: d.Platforms, Created: d.Created.In(time.UTC), Pushed: d.Pushed,
				Manifest: oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.ManifestSize},
			}
			if len(d.Platforms) == 0 {
				detail.Platforms = nil
			}
			if !yield(detail, err) {
				return
			}
		}
	}
}

func (r remote) Referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	query := ""
	if artifactType != "" {
		query = "?" + url.Values{"artifactType": {artifactType}}.Encode()
	}
	return pages[oci.Descriptor](ctx, r, check(repo, d), "/v2/"+repo+"/referrers/"+string(d)+query, "manifests")
}
