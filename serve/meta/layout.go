package meta

import (
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// The layout of registry:2, relative to the root directory. Every path of it
// is made here and nowhere else.
//
//	docker/registry/v2/blobs/<alg>/<2 hex>/<hex>/data
//	docker/registry/v2/repositories/<name>/
//	  _layers/<alg>/<hex>/link                  the blob is a member of the repository
//	  _manifests/revisions/<alg>/<hex>/link     so is the manifest
//	  _manifests/tags/<tag>/current/link        where the tag points
//	  _manifests/tags/<tag>/index/<alg>/<hex>/link  where it ever pointed
//	  _uploads/<id>/…                           an unfinished upload of registry:2
//
// A link holds a digest without a newline. Its content counts, not its path:
// registry:2 links a sha512 blob to data that it keeps under sha256.
//
// Our unfinished uploads are in docker/registry/v2/_uploads, which registry:2
// does not look at: one file each, beside the blobs that they become. A
// directory for each would take about as many changes of names as all else of
// a small push, and a repository may be on another file system than its blobs.
const (
	root         = "docker/registry/v2"
	repositories = root + "/repositories"
	blobsDir     = root + "/blobs"
	uploadsDir   = root + "/_uploads"

	layers    = "_layers"
	manifests = "_manifests"
	uploads   = "_uploads"

	// deleted ends the name of a directory that was renamed aside to be
	// removed. registry:2 passes over it as it begins with "_".
	deleted = ".deleted"

	// databaseInUse marks a store whose links are not the truth: GitLab keeps
	// them in a database.
	databaseInUse = "docker/registry/lockfiles/database-in-use"
)

// parts are the directories that make one a repository.
var parts = []string{manifests, layers, uploads}

// isAside tells whether a directory was set aside by us, to be removed.
// Nobody else names one like that.
func isAside(name string) bool {
	name, ok := strings.CutSuffix(name, deleted)
	part, id, _ := strings.Cut(name, ".")
	return ok && slices.Contains(parts, part) && id != "" && strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// BlobKey is where the bytes of a blob or manifest are kept.
func BlobKey(d oci.Digest) string {
	hex := d.Encoded()
	return path.Join(blobsDir, string(d.Algorithm()), hex[:2], hex, "data")
}

// UploadKey is where the bytes of an unfinished upload are kept. No upload of
// one repository is found in another.
func UploadKey(repo, id string) string { return path.Join(uploadsDir, uploadPrefix(repo)+id) }

func uploadPrefix(repo string) string {
	return digest.SHA256.FromString(repo).Encoded()[:16] + "-"
}

func repoDir(repo string) string { return path.Join(repositories, repo) }

func uploadDir(repo string) string                  { return path.Join(repoDir(repo), uploads) }
func layerDir(repo string) string                   { return path.Join(repoDir(repo), layers) }
func layerLink(repo string, d oci.Digest) string    { return linkIn(layerDir(repo), d) }
func revisionDir(repo string) string                { return path.Join(repoDir(repo), manifests, "revisions") }
func revisionLink(repo string, d oci.Digest) string { return linkIn(revisionDir(repo), d) }

func tagsDir(repo string) string      { return path.Join(repoDir(repo), manifests, "tags") }
func tagDir(repo, tag string) string  { return path.Join(tagsDir(repo), tag) }
func tagLink(repo, tag string) string { return path.Join(tagDir(repo, tag), "current", "link") }
func tagIndexLink(repo, tag string, d oci.Digest) string {
	return linkIn(path.Join(tagDir(repo, tag), "index"), d)
}

func linkIn(dir string, d oci.Digest) string {
	return path.Join(dir, string(d.Algorithm()), d.Encoded(), "link")
}
