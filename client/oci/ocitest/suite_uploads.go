package ocitest

import (
	"errors"
	"io"
	"strings"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

func uploadRequirements(x Exceptions) []requirement {
	return []requirement{
		{"an upload may come in pieces", (*suite).uploadPieces, ""},
		{"an upload is found again by its id", (*suite).uploadResume, ""},
		{"an upload takes what a reader gives", (*suite).uploadReader, ""},
		{"an upload goes on where a broken reader left it", (*suite).uploadBroken, ""},
		{"uploads do not mix", (*suite).uploadTwo, ""},
		{"an unfinished upload is no blob", (*suite).uploadUnfinished, ""},
		{"Commit may ask for another algorithm than was announced", (*suite).uploadAlgorithm, x.NoSHA512},
		{"Commit ends the upload", (*suite).uploadCommitted, ""},
		{"Commit with the wrong digest is DIGEST_INVALID and leaves nothing", (*suite).uploadWrong, ""},
		{"Cancel ends the upload and leaves nothing", (*suite).uploadCancel, ""},
		{"Close and Cancel do nothing after Commit or Cancel", (*suite).uploadClose, ""},
		{"an unknown upload is BLOB_UPLOAD_UNKNOWN", (*suite).uploadUnknown, ""},
		{"an upload of another repository is unknown here", (*suite).uploadElsewhere, ""},
		{"a handle that nobody wrote to claims nothing", (*suite).uploadIdle, ""},
		{"a handle that was written to keeps others out with UPLOAD_BUSY", (*suite).uploadBusy, x.NoClaims},
		{"a handle made before the upload grew is RANGE_INVALID", (*suite).uploadGrown, ""},
	}
}

// upload starts an upload in repo, or finds one. It is closed with the test.
func (s *suite) upload(id string) oci.Upload {
	s.Helper()
	up, err := s.Upload(s.Context(), repo, id, oci.UploadOptions{})
	s.must(err)
	s.Cleanup(func() { up.Close() })
	return up
}

func (s *suite) write(up oci.Upload, data string) {
	s.Helper()
	n, err := up.Write([]byte(data))
	s.must(err)
	equal(s, "bytes written", n, len(data))
}

func (s *suite) commit(up oci.Upload, content string) {
	s.Helper()
	desc, err := up.Commit(s.Context(), digest.FromString(content))
	s.must(err)
	equal(s, "digest", desc.Digest, digest.FromString(content))
	equal(s, "size", desc.Size, int64(len(content)))
	s.hasBlob(repo, desc.Digest, content)
}

// noUpload fails the test unless the upload is unknown.
func (s *suite) noUpload(repo, id string) {
	s.Helper()
	up, err := s.Upload(s.Context(), repo, id, oci.UploadOptions{})
	if err == nil {
		up.Close()
	}
	if !errors.Is(err, oci.BlobUploadUnknown) {
		s.Errorf("upload %q of %s: error is %s, want BLOB_UPLOAD_UNKNOWN", id, repo, describe(err))
	}
}

func (s *suite) uploadPieces() {
	up := s.upload("")
	equal(s, "size at first", up.Size(), 0)
	sofar := ""
	for _, piece := range []string{"one", "", "two", strings.Repeat("three", 20_000), "four"} {
		s.write(up, piece)
		sofar += piece
		equal(s, "size", up.Size(), int64(len(sofar)))
	}
	s.commit(up, sofar)
}

func (s *suite) uploadResume() {
	up := s.upload("")
	id := up.ID()
	sofar := ""
	for _, piece := range []string{"one", "two", "three"} {
		s.write(up, piece)
		sofar += piece
		s.must(up.Close())
		up = s.upload(id)
		equal(s, "id", up.ID(), id)
		equal(s, "size", up.Size(), int64(len(sofar)))
	}
	s.commit(up, sofar)
}

func (s *suite) uploadReader() {
	content := strings.Repeat("0123456789abcdef", 1<<17) // 2 MiB
	up := s.upload("")
	n, err := up.ReadFrom(strings.NewReader(content))
	s.must(err)
	equal(s, "bytes read", n, int64(len(content)))
	equal(s, "size", up.Size(), n)
	s.write(up, "tail")
	n, err = up.ReadFrom(iotest.OneByteReader(strings.NewReader("more")))
	s.must(err)
	equal(s, "bytes read", n, 4)
	s.commit(up, content+"tailmore")
}

func (s *suite) uploadBroken() {
	const content = "what came before it broke, and what came later"
	up := s.upload("")
	_, err := up.ReadFrom(io.MultiReader(strings.NewReader(content[:20]), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if err == nil {
		s.Error("a broken reader is no error")
	}
	s.must(up.Close())
	again := s.upload(up.ID())
	if again.Size() > 20 {
		s.Fatalf("received %d bytes of 20", again.Size())
	}
	s.write(again, content[again.Size():])
	s.commit(again, content)
}

func (s *suite) uploadTwo() {
	one, two := s.upload(""), s.upload("")
	if one.ID() == two.ID() {
		s.Fatalf("two uploads have one id %q", one.ID())
	}
	s.write(one, "o")
	s.write(two, "t")
	s.write(one, "ne")
	s.write(two, "wo")
	s.commit(two, "two")
	s.commit(one, "one")
}

func (s *suite) uploadUnfinished() {
	up := s.upload("")
	s.write(up, "content")
	s.lacksBlob(repo, digest.FromString("content"))
	s.must(up.Close())
	s.lacksBlob(repo, digest.FromString("content"))
}

func (s *suite) uploadAlgorithm() {
	for announced, asked := range map[digest.Algorithm]digest.Algorithm{
		digest.SHA256: digest.SHA512, digest.SHA512: digest.SHA256, "": digest.SHA512,
	} {
		content := "announced as " + string(announced)
		up, err := s.Upload(s.Context(), repo, "", oci.UploadOptions{Algorithm: announced})
		s.must(err)
		defer up.Close()
		s.write(up, content)
		desc, err := up.Commit(s.Context(), asked.FromString(content))
		s.must(err)
		equal(s, "digest", desc.Digest, asked.FromString(content))
		s.hasBlob(repo, desc.Digest, content)
	}
}

func (s *suite) uploadCommitted() {
	up, second := s.upload(""), oci.Upload(nil)
	s.write(up, "content")
	s.must(up.Close())
	up, second = s.upload(up.ID()), s.upload(up.ID())
	s.commit(up, "content")
	s.noUpload(repo, up.ID())
	if _, err := second.Write([]byte("more")); err == nil {
		s.Error("another handle writes to an upload that was committed")
	}
	if _, err := second.Commit(s.Context(), digest.FromString("content")); err == nil {
		s.Error("another handle commits an upload that was committed")
	}
	s.hasBlob(repo, digest.FromString("content"), "content")
}

func (s *suite) uploadWrong() {
	for _, d := range []oci.Digest{digest.FromString("else"), digest.SHA512.FromString("else")} {
		up := s.upload("")
		s.write(up, "content")
		_, err := up.Commit(s.Context(), d)
		s.want(oci.DigestInvalid, err)
		s.must(up.Close())
		s.noUpload(repo, up.ID())
		s.lacksBlob(repo, d)
		s.lacksBlob(repo, digest.FromString("content"))
	}
}

func (s *suite) uploadCancel() {
	fresh, begun := s.upload(""), s.upload("")
	s.write(begun, "content")
	for _, up := range []oci.Upload{fresh, begun} {
		s.must(up.Cancel(s.Context()))
		s.noUpload(repo, up.ID())
	}
	s.lacksBlob(repo, digest.FromString("content"))
}

func (s *suite) uploadClose() {
	committed, cancelled := s.upload(""), s.upload("")
	s.write(committed, "content")
	s.commit(committed, "content")
	s.must(cancelled.Cancel(s.Context()))
	for range 2 {
		s.must(committed.Cancel(s.Context()))
		s.must(cancelled.Cancel(s.Context()))
		s.must(committed.Close())
		s.must(cancelled.Close())
	}
	s.hasBlob(repo, digest.FromString("content"), "content")
	s.noUpload(repo, committed.ID())
	s.noUpload(repo, cancelled.ID())
}

func (s *suite) uploadUnknown() {
	PushBlob(s, s.Registry, repo, "content")
	for _, id := range []string{
		"x", "00000000-0000-4000-8000-000000000000", "AAAAAAAAAAAAAAAAAAAAAAAAAA",
		".", "..", "../..", "a/b", "/", "\x00", "%2e%2e", strings.Repeat("x", 5000),
	} {
		s.noUpload(repo, id)
	}
}

func (s *suite) uploadElsewhere() {
	up := s.upload("")
	s.write(up, "content")
	s.must(up.Close())
	for _, name := range []string{other, "team", "team/app/below"} {
		s.noUpload(name, up.ID())
	}
	s.commit(s.upload(up.ID()), "content")
}

func (s *suite) uploadIdle() {
	idle := s.upload("")
	s.commit(func() oci.Upload {
		up := s.upload(idle.ID())
		s.write(up, "content")
		return up
	}(), "content")
	s.must(idle.Close())
}

func (s *suite) uploadBusy() {
	first := s.upload("")
	second := s.upload(first.ID())
	s.write(first, "one")
	third := s.upload(first.ID())
	for what, up := range map[string]oci.Upload{"made before": second, "made after": third} {
		for call, err := range s.changes(up) {
			if !errors.Is(err, oci.UploadBusy) {
				s.Errorf("%s by a handle %s: error is %s, want UPLOAD_BUSY", call, what, describe(err))
			}
		}
	}
	s.write(first, "two")
	s.must(first.Close())
	s.commit(s.upload(first.ID()), "onetwo")
}

func (s *suite) uploadGrown() {
	first := s.upload("")
	second := s.upload(first.ID())
	s.write(first, "one")
	s.must(first.Close())
	for call, err := range s.changes(second) {
		if !errors.Is(err, oci.RangeInvalid) {
			s.Errorf("%s: error is %s, want RANGE_INVALID", call, describe(err))
		}
	}
	third := s.upload(first.ID())
	equal(s, "size", third.Size(), 3)
	s.write(third, "two")
	s.commit(third, "onetwo")
}

// changes tries every call that changes an upload, none of which may succeed,
// and returns the error of each.
func (s *suite) changes(up oci.Upload) map[string]error {
	s.Helper()
	_, wrote := up.Write([]byte("x"))
	_, read := up.ReadFrom(strings.NewReader("x"))
	_, committed := up.Commit(s.Context(), digest.FromString("one"))
	return map[string]error{
		"Write": wrote, "ReadFrom": read, "Commit": committed, "Cancel": up.Cancel(s.Context()),
	}
}
