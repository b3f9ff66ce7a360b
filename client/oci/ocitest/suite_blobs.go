package ocitest

import (
	"io"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

func blobRequirements(x Exceptions) []requirement {
	return []requirement{
		{"a blob comes back with its digest and size", (*suite).blobBytes, ""},
		{"a blob may be empty", (*suite).blobEmpty, ""},
		{"a blob may be read from anywhere", (*suite).blobSeek, ""},
		{"a blob may be pushed again", (*suite).blobAgain, ""},
		{"a blob pushed by sha512 is known by sha512 only", (*suite).blobSHA512, x.NoSHA512},
		{"an unknown blob is BLOB_UNKNOWN", (*suite).blobUnknown, ""},
		{"a blob of another repository is unknown here", (*suite).blobElsewhere, ""},
		{"a mounted blob is a member of both repositories", (*suite).mount, ""},
		{"a blob may be mounted by sha512", (*suite).mountSHA512, x.NoSHA512},
		{"a blob may be mounted from the repository it is in", (*suite).mountHere, ""},
		{"without a source a blob is mounted from anywhere", (*suite).mountAny, x.NoAnyMount},
		{"a mount from a repository without the blob becomes an upload", (*suite).mountMissing, ""},
		{"a mount of a blob nobody has becomes an upload", (*suite).mountNowhere, ""},
	}
}

func (s *suite) blobBytes() {
	const content = "some bytes \x00\xff\r\n"
	desc := PushBlob(s, s.Registry, repo, content)
	equal(s, "digest", desc.Digest, digest.FromString(content))
	equal(s, "size", desc.Size, int64(len(content)))
	s.hasBlob(repo, desc.Digest, content)
}

func (s *suite) blobEmpty() {
	s.hasBlob(repo, PushBlob(s, s.Registry, repo, "").Digest, "")

	up, err := s.Upload(s.Context(), other, "", oci.UploadOptions{})
	s.must(err)
	_, err = up.Commit(s.Context(), digest.FromString("")) // Nothing was ever written.
	s.must(err)
	s.hasBlob(other, digest.FromString(""), "")
}

func (s *suite) blobSeek() {
	const content = "0123456789"
	d := PushBlob(s, s.Registry, repo, content).Digest
	b, err := s.Blob(s.Context(), repo, d)
	s.must(err)
	defer b.Close()
	for _, at := range []int64{7, 0, 9, 3} {
		got, err := b.Seek(at, io.SeekStart)
		s.must(err)
		equal(s, "position", got, at)
		rest, err := io.ReadAll(b)
		s.must(err)
		equal(s, "rest", string(rest), content[at:])
	}
	end, err := b.Seek(0, io.SeekEnd)
	s.must(err)
	equal(s, "end", end, int64(len(content)))
	at, err := b.Seek(-4, io.SeekCurrent)
	s.must(err)
	equal(s, "position", at, 6)
	rest, err := io.ReadAll(io.LimitReader(b, 2))
	s.must(err)
	equal(s, "two bytes", string(rest), "67")
}

func (s *suite) blobAgain() {
	for range 2 {
		s.hasBlob(repo, PushBlob(s, s.Registry, repo, "content").Digest, "content")
	}
}

func (s *suite) blobSHA512() {
	d := pushBlob(s, s.Registry, repo, "content", digest.SHA512).Digest
	equal(s, "digest", d, digest.SHA512.FromString("content"))
	s.hasBlob(repo, d, "content")
	s.lacksBlob(repo, digest.FromString("content"))
	short := PushBlob(s, s.Registry, other, "content").Digest
	s.hasBlob(other, short, "content")
	s.lacksBlob(other, d)
}

func (s *suite) blobUnknown() {
	PushBlob(s, s.Registry, repo, "content")
	s.lacksBlob(repo, digest.FromString("missing"))
	s.lacksBlob(repo, digest.SHA512.FromString("content"))
	s.lacksBlob("never/pushed", digest.FromString("content"))
}

func (s *suite) blobElsewhere() {
	d := PushBlob(s, s.Registry, "team/app/below", "content").Digest
	for _, name := range []string{repo, "team", "team/app/below/it", "team/app-below"} {
		s.lacksBlob(name, d)
	}
}

func (s *suite) mount() {
	d := PushBlob(s, s.Registry, other, "content").Digest
	s.mounted(repo, other, d)
	s.hasBlob(repo, d, "content")
	s.hasBlob(other, d, "content")
	s.lacksBlob("team", d)
}

func (s *suite) mounted(repo, from string, d oci.Digest) {
	s.Helper()
	up, err := s.MountBlob(s.Context(), repo, from, d)
	s.must(err)
	if up != nil {
		s.Fatalf("mount of %s from %q became an upload", d, from)
	}
}

func (s *suite) mountSHA512() {
	d := pushBlob(s, s.Registry, other, "content", digest.SHA512).Digest
	s.mounted(repo, other, d)
	s.hasBlob(repo, d, "content")
	s.lacksBlob(repo, digest.FromString("content"))
}

func (s *suite) mountHere() {
	d := PushBlob(s, s.Registry, repo, "content").Digest
	s.mounted(repo, repo, d)
	s.hasBlob(repo, d, "content")
}

func (s *suite) mountAny() {
	d := PushBlob(s, s.Registry, other, "content").Digest
	s.mounted(repo, "", d)
	s.hasBlob(repo, d, "content")
}

func (s *suite) mountMissing() {
	d := PushBlob(s, s.Registry, "third", "content").Digest
	PushBlob(s, s.Registry, other, "else")
	for _, from := range []string{other, "never/pushed"} {
		up, err := s.MountBlob(s.Context(), repo, from, d)
		s.must(err)
		if up == nil {
			s.Fatalf("%s was mounted from %s, which does not have it", d, from)
		}
		s.must(up.Cancel(s.Context()))
		s.lacksBlob(repo, d)
	}
}

func (s *suite) mountNowhere() {
	const content = "new content"
	for _, from := range []string{other, ""} {
		d := digest.FromString(content + from)
		up, err := s.MountBlob(s.Context(), repo, from, d)
		s.must(err)
		if up == nil {
			s.Fatalf("mounted %s, which nobody has", d)
		}
		defer up.Close()
		_, err = up.ReadFrom(strings.NewReader(content + from))
		s.must(err)
		_, err = up.Commit(s.Context(), d)
		s.must(err)
		s.hasBlob(repo, d, content+from)
	}
}
