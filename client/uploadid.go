package client

import (
	"net/url"
	"strings"

	"github.com/regctl/regctl/client/oci"
)

const (
	maxUploadID = 8 << 10
	maxIDPath   = 256
)

// uploadID makes an id of the location of an upload: what tells it from others
// of its repository, or all of it if it is somewhere else.
func uploadID(base *url.URL, repo, at string) string {
	u, err := url.Parse(at)
	if err != nil {
		return ""
	}
	if !u.IsAbs() || u.Host == base.Host {
		if id, ok := strings.CutPrefix(u.EscapedPath(), "/v2/"+repo+"/blobs/uploads/"); ok {
			if u.RawQuery != "" {
				id += "?" + u.RawQuery
			}
			if isUploadID(id) {
				return id
			}
		}
	}
	return "@" + at
}

// uploadAt is the location that an id was made of.
// Errors: [oci.BlobUploadUnknown].
func uploadAt(repo, id string) (string, error) {
	if at, ok := strings.CutPrefix(id, "@"); ok && len(id) <= maxUploadID {
		if u, err := url.Parse(at); err == nil && (u.Scheme == "http" || u.Scheme == "https" || u.Scheme == "" && strings.HasPrefix(at, "/")) {
			return at, nil
		}
	}
	if !isUploadID(id) {
		return "", oci.Errorf(oci.BlobUploadUnknown, "no upload %q", clip(id))
	}
	return "/v2/" + repo + "/blobs/uploads/" + id, nil
}

// isUploadID tells whether id is the last part of a path, with or without a
// query, and means nothing else.
func isUploadID(id string) bool {
	path, query, _ := strings.Cut(id, "?")
	plain := func(s, also string) bool {
		return !strings.ContainsFunc(s, func(r rune) bool {
			return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && !strings.ContainsRune(also, r)
		})
	}
	return path != "" && len(path) <= maxIDPath && len(id) <= maxUploadID && strings.Trim(path, ".") != "" &&
		plain(path, "-_.~=+") && plain(query, "-_.~=+&%/:@,;!$'()*?")
}
