package serve

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

var long = testContent["app"].Blobs["long"]

func TestGetBlob(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	d := string(s.digests["long"])
	path := "/v2/app/blobs/" + d
	headers := []string{
		"Content-Type", "application/octet-stream", "Docker-Content-Digest", d, "Etag", `"` + d + `"`, "Accept-Ranges", "bytes",
		"Cache-Control", "max-age=31536000, immutable", "Docker-Distribution-Api-Version", "registry/2.0",
	}
	tests := []struct {
		name, header, value string
		status              int
		body                string
		more                []string
	}{
		{"whole", "", "", 200, long, []string{"Content-Length", "1000", "Content-Range", "-"}},
		{"first bytes", "Range", "bytes=0-4", 206, "01234", []string{"Content-Range", "bytes 0-4/1000", "Content-Length", "5"}},
		{"from", "Range", "bytes=995-", 206, "56789", []string{"Content-Range", "bytes 995-999/1000"}},
		{"past the end", "Range", "bytes=998-2000", 206, "89", []string{"Content-Range", "bytes 998-999/1000"}},
		{"suffix", "Range", "bytes=-3", 206, "789", []string{"Content-Range", "bytes 997-999/1000"}},
		{"same", "If-None-Match", `"` + d + `"`, 304, "", nil},
		{"other", "If-None-Match", `"x"`, 200, long, nil},
		{"If-Match other", "If-Match", `"x"`, 412, "", nil},
	}
	for _, tt := range tests {
		a := s.do("GET", path, "", tt.header, tt.value)
		s.want(tt.name, a, tt.status, tt.more...)
		if a.body != tt.body {
			t.Errorf("%s: body %q", tt.name, a.body)
		}
		if tt.status < 300 {
			s.want(tt.name, a, tt.status, headers...)
		}
		if tt.header == "Range" {
			s.want("HEAD ignores "+tt.name, s.do("HEAD", path, "", tt.header, tt.value), 200, append(headers, "Content-Length", "1000", "Content-Range", "-")...)
		} else {
			s.want("HEAD "+tt.name, s.do("HEAD", path, "", tt.header, tt.value), tt.status, tt.more...)
		}
	}
	s.want("If-Range holds", s.do("GET", path, "", "Range", "bytes=0-1", "If-Range", `"`+d+`"`), 206)
	s.want("If-Range fails", s.do("GET", path, "", "Range", "bytes=0-1", "If-Range", `"x"`), 200)
	s.want("unknown", s.do("GET", "/v2/app/blobs/"+sha512abc, ""), 404, "Cache-Control", "-")
	s.want("of no member", s.do("GET", "/v2/other/blobs/"+d, "", "Range", "bytes=0-1"), 404)
	s.want("HEAD unknown", s.do("HEAD", "/v2/app/blobs/"+sha512abc, ""), 404)
}

func TestGetBlobRangeInvalid(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	for _, value := range []string{"bytes=1000-", "bytes=x", "bytes=5-2"} {
		a := s.do("GET", "/v2/app/blobs/"+string(s.digests["long"]), "", "Range", value)
		s.want(value, a, 416, "Content-Type", "application/json", "Cache-Control", "-", "Etag", "-")
		if a.code() != oci.RangeInvalid {
			t.Errorf("%s: code %s, body %s", value, a.code(), a.body)
		}
	}
	s.want("size", s.do("GET", "/v2/app/blobs/"+string(s.digests["long"]), "", "Range", "bytes=1000-"), 416, "Content-Range", "bytes */1000")
}

func TestGetBlobRanges(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	a := s.do("GET", "/v2/app/blobs/"+string(s.digests["long"]), "", "Range", "bytes=0-1,-2")
	s.want("two ranges", a, 206)
	_, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range []string{"01", "89"} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(p); string(got) != want || err != nil {
			t.Errorf("part %q, %v", got, err)
		}
	}
}

// closed is a registry whose blobs cannot be opened.
type closed struct{ oci.Registry }

func (closed) Blob(context.Context, string, oci.Digest) (oci.BlobReader, error) {
	return oci.BlobReader{}, errors.New("opened")
}

func TestHeadBlobOpensNothing(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	d := ocitest.PushBlob(t, reg, "app", "abc").Digest
	s := newServer(t, closed{reg}, Options{})
	s.want("HEAD", s.do("HEAD", "/v2/app/blobs/"+string(d), ""), 200, "Content-Length", "3")
	s.want("GET", s.do("GET", "/v2/app/blobs/"+string(d), ""), 500)
}

func TestDeleteBlob(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	loose := string(ocitest.PushBlob(t, s.reg, "app", "loose").Digest)
	s.want("loose", s.do("DELETE", "/v2/app/blobs/"+loose, ""), 202, "Content-Length", "0")
	s.want("gone", s.do("HEAD", "/v2/app/blobs/"+loose, ""), 404)
	s.want("again", s.do("DELETE", "/v2/app/blobs/"+loose, ""), 404)
	s.want("needed", s.do("DELETE", "/v2/app/blobs/"+string(s.digests["abc"]), ""), 405, "Allow", "GET, HEAD, OPTIONS")
}

// files is a registry of one blob that is a file.
type files struct {
	oci.Registry
	path string
	d    oci.Descriptor
}

// newFiles does not take the trouble to find the true digest: nobody asks.
func newFiles(t testing.TB, size int) files {
	t.Helper()
	data := strings.Repeat("0123456789abcdef", size/16)
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return files{ocitest.NewRegistry(), path, oci.Descriptor{Digest: sha256abc, Size: int64(len(data))}}
}

func (f files) Blob(context.Context, string, oci.Digest) (oci.BlobReader, error) {
	file, err := os.OpenFile(f.path, os.O_RDWR, 0)
	return oci.BlobReader{ReadSeekCloser: file, Descriptor: f.d}, err
}

// shortened is a registry whose blobs lose their end once they are open.
type shortened struct{ files }

func (f shortened) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	b, err := f.files.Blob(ctx, repo, d)
	b.ReadSeekCloser = &shrinking{b.ReadSeekCloser.(*os.File)}
	return b, err
}

// shrinking is a file that is cut short once its size was asked.
type shrinking struct{ *os.File }

func (s *shrinking) Seek(offset int64, whence int) (int64, error) {
	n, err := s.File.Seek(offset, whence)
	if whence == io.SeekEnd {
		err = errors.Join(err, s.Truncate(n/2))
	}
	return n, err
}

// A blob that is cut short on the disk is no success, for nobody.
func TestBlobThatEndsEarly(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 3 * chunk} {
		log, access := &logBuffer{}, &logBuffer{}
		reg := shortened{newFiles(t, size)}
		s := newServer(t, reg, Options{Log: log.text(), Access: access.json()})
		res, err := http.Get(s.url + "/v2/app/blobs/" + sha256abc)
		if err == nil {
			defer res.Body.Close()
			_, err = io.Copy(io.Discard, res.Body)
		}
		if err == nil {
			t.Errorf("%d bytes: the client does not notice", size)
		}
		if line := access.lines(t, 1)[0]; line["status"] != 500.0 || line["bytes"] != float64(size/2) {
			t.Errorf("access log %v", line)
		}
		if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), sha256abc) {
			t.Errorf("log %q", log)
		}
	}
}

// spy is a ResponseWriter that looks at what ReadFrom is given.
type spy struct {
	*httptest.ResponseRecorder
	t     *testing.T
	sizes []int64
}

func (s *spy) ReadFrom(src io.Reader) (int64, error) {
	limited, ok := src.(*io.LimitedReader)
	if !ok {
		s.t.Errorf("got a %T, not a LimitedReader", src)
		return io.Copy(s.ResponseRecorder, src)
	}
	if _, ok := limited.R.(*os.File); !ok {
		s.t.Errorf("got a LimitedReader on a %T, not on a file", limited.R)
	}
	s.sizes = append(s.sizes, limited.N)
	return io.Copy(s.ResponseRecorder, src)
}

// net/http hands what ReadFrom gets to the connection, and that to sendfile if
// it is a LimitedReader right on a file.
func TestFilesReachReadFrom(t *testing.T) {
	t.Parallel()
	reg := newFiles(t, 2*chunk+chunk/2)
	h := NewHandler(reg, Options{})
	for _, tt := range []struct {
		header string
		sizes  []int64
	}{
		{"", []int64{chunk, chunk, chunk / 2}},
		{"bytes=16-31", []int64{16}},
	} {
		w := &spy{ResponseRecorder: httptest.NewRecorder(), t: t}
		r := httptest.NewRequest("GET", "/v2/app/blobs/"+string(reg.d.Digest), nil)
		r.Header.Set("Range", tt.header)
		h.ServeHTTP(w, r)
		if len(w.sizes) != len(tt.sizes) {
			t.Fatalf("pieces of %v, want %v", w.sizes, tt.sizes)
		}
		for i, size := range tt.sizes {
			if w.sizes[i] != size {
				t.Errorf("pieces of %v, want %v", w.sizes, tt.sizes)
			}
		}
	}
}

// counted is a listener whose connections count what they are given to send:
// as a TCP connection does, they take files by ReadFrom.
type counted struct {
	net.Listener
	files, writes chan int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{c.(*net.TCPConn), l}, nil
}

type countedConn struct {
	*net.TCPConn
	l counted
}

func (c *countedConn) ReadFrom(src io.Reader) (int64, error) {
	n, err := c.TCPConn.ReadFrom(src)
	if limited, ok := src.(*io.LimitedReader); ok {
		if _, ok := limited.R.(*os.File); ok {
			c.l.files <- n
		}
	}
	return n, err
}

func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.TCPConn.Write(p)
	c.l.writes <- int64(n)
	return n, err
}

func TestFilesReachTheConnection(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	reg := newFiles(t, size)
	ls, err := Listen(t.Context(), []string{"127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := counted{ls[0], make(chan int64, 1000), make(chan int64, 1000)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := &Server{Handler: NewHandler(reg, Options{})}
	go func() { done <- srv.Serve(ctx, []net.Listener{l}) }()
	s := &server{t: t, url: "http://" + l.Addr().String()}
	a := s.do("GET", "/v2/app/blobs/"+string(reg.d.Digest), "")
	s.want("blob", a, http.StatusOK)
	if a.body != strings.Repeat("0123456789abcdef", size/16) {
		t.Error("the body is another")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	close(l.files)
	close(l.writes)
	var byFile, byWrite int64
	for n := range l.files {
		byFile += n
	}
	for n := range l.writes {
		byWrite += n
	}
	// net/http copies the first 512 bytes itself.
	if byFile < size-512 || byWrite > 4096 {
		t.Errorf("%d bytes went from file to connection, %d were copied", byFile, byWrite)
	}
}
