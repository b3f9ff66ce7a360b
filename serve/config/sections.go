package config

import (
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Log is the section log.
type Log struct {
	Level     string            // error, warn, info (default) or debug.
	Formatter string            // text (default), json or logstash.
	Fields    map[string]string // On every line.
	AccessLog AccessLog
}

// AccessLog is the section log.accesslog.
type AccessLog struct{ Disabled bool }

// Storage is the section storage.
type Storage struct {
	// Root is storage.filesystem.rootdirectory; empty: not said, see [FindStore].
	Root string
	// RootFrom is where Root was said: a line of the file or a variable.
	RootFrom string
	// InMemory keeps everything in memory instead.
	InMemory bool
	// NoSync is set by storage.filesystem.sync: false: a crash may lose what
	// was acknowledged.
	NoSync bool
	// Deletes is storage.delete.enabled. Default: on, with Compat off.
	Deletes bool
	// ReadOnly is storage.maintenance.readonly.enabled: nothing is taken.
	ReadOnly bool
}

// HTTP is the section http.
type HTTP struct {
	// Network is tcp (default) or unix; Addrs are addresses, or one path of a
	// socket. Default: loopback, port 5000; with Compat ":5000".
	Network      string
	Addrs        []string
	Prefix       string      // Where the API is: begins and ends with a slash. Default: "/".
	Host         string      // Scheme and host as clients see them.
	RelativeURLs bool        // Locations are paths even if Host is set.
	Headers      http.Header // On every answer.
	DrainTimeout time.Duration
	TLS          TLS
	HTTP2Off     bool // http.http2.disabled
	H2C          bool // http.h2c.enabled: HTTP/2 without TLS.
	Debug        Debug
	// TrustedProxies are the peers whose X-Forwarded-* headers count; it is
	// ours. Default: loopback and private addresses.
	TrustedProxies []netip.Prefix
}

// TLS is the section http.tls. It is on if Certificate is set.
type TLS struct {
	Certificate, Key string   // PEM files.
	ClientCAs        []string // PEM files.
	// ClientAuth is one of those of distribution: request-client-cert,
	// require-any-client-cert, verify-client-cert-if-given,
	// require-and-verify-client-cert (default if there are ClientCAs).
	ClientAuth   string
	MinVersion   uint16   // Of crypto/tls. Default: TLS 1.2.
	CipherSuites []uint16 // Of TLS 1.2. Empty: those of crypto/tls.
}

// Debug is the section http.debug.
type Debug struct {
	Addr       string // Empty: there is none.
	Prometheus bool
	Path       string // Of the metrics. Default: /metrics.
}

// Auth is the section auth.
type Auth struct {
	Htpasswd *Htpasswd // Nil: there is none.
	Token    *TokenAuth
	LDAP     *LDAP // Ours.
}

// Htpasswd is the section auth.htpasswd.
type Htpasswd struct{ Realm, Path string }

// TokenAuth is the section auth.token: a token server elsewhere.
type TokenAuth struct {
	Realm, Service, Issuer string
	RootCertBundle         string   // A PEM file. Empty: there is JWKS.
	JWKS                   string   // A file with a JSON Web Key Set.
	SigningAlgorithms      []string // Of JOSE. Empty: those of distribution 3.
	AutoRedirect           bool     // The realm is this host, with AutoRedirectPath.
	AutoRedirectPath       string   // Default: /auth/token.

	symmetric []string // What is left out of signingalgorithms.
}

// LDAP is the section auth.ldap.
type LDAP struct {
	URL          string // ldap://, ldaps:// or ldapi://.
	StartTLS     bool
	CA           string // A PEM file. Empty: the authorities of the system.
	BindDN       string // Empty: anonymous, or as the user where UserDN is set.
	BindPassword string
	BindFile     string // A file with the password, read again when it changes.
	UserDN       string // "uid=${user},ou=people,dc=example,dc=com": no search.
	UserBase     string
	UserFilter   string        // Default: (uid=${user}), if UserBase is set.
	UserName     string        // The attribute that is the name. Default: what was typed.
	GroupBase    string        // Empty: groups are those of GroupOf.
	GroupFilter  string        // Default: (|(member=${dn})(uniqueMember=${dn})(memberUid=${user})).
	GroupName    string        // The attribute that is the name of a group. Default: cn.
	GroupOf      string        // The attribute of a user with the DNs of groups. Default: memberOf, if GroupBase is empty.
	Timeout      time.Duration // Of one question. Default: 5 seconds.
}

// Access is the section access, which is ours: who may do what.
type Access struct {
	// Preset is open, public-pull or private; empty: there are Rules, or
	// nothing was said and On is false.
	Preset string
	Rules  []rule.Rule
	On     bool
}

// TokenService is the section tokens, which is ours: the token server at
// /v2/_token.
type TokenService struct {
	Service    string        // Default: the host that the client asks for.
	Issuer     string        // Default: regctl.
	Expiration time.Duration // Default: 5 minutes; at least one.
	Services   []string      // Other registries that trust us, by their service.
}

// Audit is the section audit, which is ours.
type Audit struct {
	Path    string // A file of JSON lines. Empty: there is none.
	MaxSize int64  // In bytes; then it is rotated. Default: 100 MiB.
	Keep    int    // How many old files. Default: 10.
	Pulls   bool   // Manifests that are read are told of as well.
}

// Health is the section health.
type Health struct {
	Storage HealthStorage
	Files   []HealthFile
	HTTP    []HealthHTTP
	TCP     []HealthTCP
}

// HealthStorage is health.storagedriver.
type HealthStorage struct {
	Enabled   bool
	Interval  time.Duration // Default: 10 seconds.
	Threshold int           // Failures in a row until it counts. Default: 1.
}

// HealthFile is an entry of health.file: while the file is there, we are ill.
type HealthFile struct {
	File     string
	Interval time.Duration // Default: 10 seconds.
}

// HealthHTTP is an entry of health.http.
type HealthHTTP struct {
	URI        string
	Headers    http.Header
	StatusCode int           // Default: 200.
	Timeout    time.Duration // Default: the interval.
	Interval   time.Duration // Default: 10 seconds.
	Threshold  int           // Default: 1.
}

// HealthTCP is an entry of health.tcp.
type HealthTCP struct {
	Addr      string
	Timeout   time.Duration // Default: the interval.
	Interval  time.Duration // Default: 10 seconds.
	Threshold int           // Default: 1.
}

// Notify is the section notifications.
type Notify struct {
	IncludeReferences bool // notifications.events.includereferences
	Endpoints         []Endpoint
}

// Endpoint is an entry of notifications.endpoints that is not disabled.
type Endpoint struct {
	Name    string // Not empty, and no two are alike.
	URL     string
	Headers http.Header
	// Timeout of a delivery (default 1s); after Threshold failures in a row
	// (default 10) it waits for Backoff (default 1s) and longer each time.
	Timeout          time.Duration
	Threshold        int
	Backoff          time.Duration
	IgnoreMediaTypes []string // With those of ignoredmediatypes.
	IgnoreActions    []string // pull, push, mount or delete.

	disabled bool
	unitless []string // Keys whose times have no unit.
	index    int      // In the file.
}

// Catalog is the section catalog.
type Catalog struct{ MaxEntries int }

// Tags is the section tags.
type Tags struct{ MaxTags int }

// Validation is the section validation.
type Validation struct {
	// SparseImages is set by validation.manifests.images.layers: none, which
	// is ours: images are accepted without their config and layers.
	SparseImages bool

	// URLs says that layers may have URLs elsewhere only if they match one of
	// Allow, if there are any, and none of Deny; with neither none may.
	URLs        bool
	Allow, Deny []*regexp.Regexp

	// Platforms says which images an index must have in the repository:
	// none (default), all (default with Compat), or list: those of PlatformList.
	Platforms    string
	PlatformList []Platform

	enabled, disabled, on bool
}

// Platform is an entry of validation.manifests.indexes.platformlist.
type Platform struct{ Architecture, OS string }
