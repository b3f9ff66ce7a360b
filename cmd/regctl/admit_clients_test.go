package main_test

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// The matrix of clients: each with no login, with one that may all, a wrong
// password, a token that ends while it is at work, and a login that may only
// look, does what it can do.

// admitOps are what clients do, in this order.
var admitOps = []string{"public pull", "private pull", "push", "mount", "delete", "catalogue"}

// admitLogins are the ways to come, with the outcome of each of admitOps.
var admitLogins = []struct {
	name, login string
	scope       string // It is a robot with this scope.
	expire      bool
	want        string // A letter for each of admitOps: ok, unauthorized, denied.
}{
	{name: "anonymous", want: "ouuuuu"},
	{name: "good", login: admitGood, want: "oooooo"},
	{name: "wrong", login: admitWrong, want: "wwwwww"},
	{name: "expired", login: admitGood, expire: true, want: "eeeeee"},
	{name: "narrow", login: admitNarrow, want: "oodddd"},
	{name: "robot", scope: "**:all", want: "oooooo"},
	{name: "narrow-robot", scope: "private/**:pull", want: "oodddd"},
}

// admitCell is one cell of the matrix.
type admitCell struct {
	host, login, name string // The name is one for each cell.
}

func (c admitCell) ref(repo string) string { return c.host + "/" + repo }

// admitClient is a client in the matrix.
type admitClient struct {
	// make returns it with a home of its own, in which the login is saved.
	make func(t *testing.T, c admitCell) tool

	// ops are commands for those of admitOps that it can do; each ends in what
	// checks nothing but that they succeed.
	ops map[string]func(t *testing.T, p tool, c admitCell) []string

	// What it says, as a regular expression, in lower case: without a login,
	// with a wrong one, and if it may not. They may differ by what it does.
	unauthorized, wrong, denied string
	says                        map[string]string // "d push": instead of denied.

	// expired is what it says if a token that it has is not taken any more;
	// empty: it gets another one.
	expired string
}

var admitClients = map[string]admitClient{
	"skopeo":    admitSkopeo,
	"podman":    admitPodman,
	"buildah":   admitBuildah,
	"crane":     admitCrane,
	"regclient": admitRegclient,
	"regctl":    admitRegctl,
	"curl":      admitCurl,
}

// TestAdmissionOfClients: docker and containerd are in TestAdmissionOfDocker.
func TestAdmissionOfClients(t *testing.T) {
	for name, c := range admitClients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			exerciseAdmission(t, c)
		})
	}
}

func exerciseAdmission(t *testing.T, c admitClient) {
	t.Helper()
	s := startAdmission(t)
	p := startExpiring(t, s.server)
	var n uint64
	for _, l := range admitLogins {
		host := s.addr
		if l.scope != "" {
			l.login = s.robot(t, l.name, l.scope)
		}
		if l.expire {
			host = p.addr
		}
		for i, op := range admitOps {
			do := c.ops[op]
			if do == nil {
				continue
			}
			n++
			cell := admitCell{host: host, login: l.login, name: fmt.Sprintf("%s-%d", l.name, i)}
			t.Run(strings.ReplaceAll(l.name+"/"+op, " ", "_"), func(t *testing.T) {
				if op == "delete" {
					seedImage(t, s.server, "private/doomed-"+cell.name, "one", 100+n)
				}
				program := c.make(t, cell)
				args := do(t, program, cell)
				p.begin()
				cmd := exec.Command(program.path, append(program.args[:len(program.args):len(program.args)], args...)...)
				cmd.Env = program.env
				out, err := cmd.CombinedOutput()
				want := string(l.want[i])
				if l.expire && !p.done.Load() {
					want = "o" // It has used none twice.
				}
				said := c.said(want, op)
				wantOutcome(t, said, args, out, err)
				wantDone(t, s.server, op, said == "", cell)
			})
		}
	}
	s.end(t)
	if log := s.log.String(); strings.Contains(log, "good:password") || strings.Contains(log, "regctl_") || strings.Contains(log, "level=error") {
		t.Errorf("the log tells a password or an error:\n%s", log)
	}
}

// robot makes one, and returns its login.
func (s ruled) robot(t *testing.T, name, scope string) string {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "token", "create", name, "--scope", scope, "--data", s.dir)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	secret, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return name + ":" + strings.TrimSpace(string(secret))
}

// said is what a client says to an outcome; empty: nothing is wrong.
func (c admitClient) said(want, op string) string {
	if own, ok := c.says[want+" "+op]; ok {
		return own
	}
	return map[string]string{"o": "", "u": c.unauthorized, "w": c.wrong, "d": c.denied, "e": c.expired}[want]
}

// wantOutcome holds what a command said and how it ended against the table.
func wantOutcome(t *testing.T, said string, args []string, out []byte, err error) {
	t.Helper()
	switch {
	case said == "" && err != nil:
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	case said != "" && (err == nil || !regexp.MustCompile(said).MatchString(strings.ToLower(string(out)))):
		t.Errorf("%s: %v, want %q in\n%s", strings.Join(args, " "), err, said, out)
	}
}

// wantDone looks whether what was to be changed is.
func wantDone(t *testing.T, s *server, op string, done bool, c admitCell) {
	t.Helper()
	w := speakAsWho(s, admitGood)
	repo, status := "", map[bool]int{true: http.StatusOK, false: http.StatusNotFound}
	switch op {
	case "push":
		repo = "private/pushed-" + c.name
	case "mount":
		repo = "private/mounted-" + c.name
	case "delete":
		repo, status = "private/doomed-"+c.name, map[bool]int{true: http.StatusNotFound, false: http.StatusOK}
	default:
		return
	}
	if _, err := w.want(status[done], http.MethodHead, "/v2/"+repo+"/manifests/one", "", nil); err != nil {
		t.Error(err)
	}
}

// expiring stands before a server, and makes it so that a token that was good
// is not any more, once.
type expiring struct {
	*proxy
	seen sync.Map
	done atomic.Bool
}

func startExpiring(tb testing.TB, s *server) *expiring {
	tb.Helper()
	p := &expiring{proxy: startProxy(tb, s.addr)}
	p.each(func(_ int64, r *http.Request) {
		raw, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || strings.HasSuffix(r.URL.Path, "/v2/") {
			return
		}
		if _, known := p.seen.LoadOrStore(raw, true); known && p.done.CompareAndSwap(false, true) {
			r.Header.Set("Authorization", "Bearer "+raw[:len(raw)-8]+"AAAAAAAA")
		}
	})
	return p
}

// begin is before each client: one token more is to expire.
func (p *expiring) begin() { p.done.Store(false) }

func toolAt(t *testing.T, c admitCell, name string, args ...string) tool {
	t.Helper()
	p := newTool(t, name, args...)
	writeDockerLogin(t, strings.TrimPrefix(p.env[0], "HOME="), c.host, c.login)
	return p
}

// What skopeo, podman and buildah say. They get a new token in time, by what
// they were told of the old one, and take none for invalid before.
const (
	containersUnauthorized = "log in first: docker login 127"
	containersExpired      = "unauthorized: authentication required|the token is not valid"
)

type admitOp = func(t *testing.T, p tool, c admitCell) []string

var admitSkopeo = admitClient{
	make: func(t *testing.T, c admitCell) tool { return toolAt(t, c, "skopeo") },
	ops: map[string]admitOp{
		"public pull":  skopeoPull("public/app:one"),
		"private pull": skopeoPull("private/app:one"),
		"push": func(t *testing.T, _ tool, c admitCell) []string {
			dir, _ := layout(t, c.name)
			return []string{"copy", "--dest-tls-verify=false", "oci:" + dir + ":x", "docker://" + c.ref("private/pushed-"+c.name+":one")}
		},
		"mount": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"copy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://" + c.ref("private/app:one"), "docker://" + c.ref("private/mounted-"+c.name+":one")}
		},
		"delete": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"delete", "--tls-verify=false", "docker://" + c.ref("private/doomed-"+c.name+":one")}
		},
	},
	unauthorized: containersUnauthorized, wrong: "invalid username/password", denied: "denied", expired: containersExpired,
}

func skopeoPull(name string) admitOp {
	return func(t *testing.T, _ tool, c admitCell) []string {
		return []string{"copy", "--src-tls-verify=false", "docker://" + c.ref(name), "oci:" + t.TempDir() + ":x"}
	}
}

func podmanAt(t *testing.T, c admitCell) tool {
	p := newPodman(t)
	writeDockerLogin(t, strings.TrimPrefix(p.env[0], "HOME="), c.host, c.login)
	return p
}

func podmanPull(name string) admitOp {
	return func(_ *testing.T, _ tool, c admitCell) []string {
		return []string{"pull", "--tls-verify=false", c.ref(name)}
	}
}

var admitPodman = admitClient{
	make: podmanAt,
	ops: map[string]admitOp{
		"public pull":  podmanPull("public/app:one"),
		"private pull": podmanPull("private/app:one"),
		"push": func(t *testing.T, p tool, c admitCell) []string {
			ref := c.ref("private/pushed-" + c.name + ":one")
			p.run(t, "import", layer(t, ref), ref)
			return []string{"push", "--tls-verify=false", ref, "docker://" + ref}
		},
		"catalogue": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"search", "--tls-verify=false", "--format", "{{.Name}}", c.host + "/"}
		},
	},
	unauthorized: containersUnauthorized, wrong: "invalid username/password", denied: "denied", expired: containersExpired,
	says: map[string]string{"d catalogue": "403"},
}

var admitBuildah = admitClient{
	make: func(t *testing.T, c admitCell) tool { return toolAt(t, c, "buildah", storeFlags(t)...) },
	ops: map[string]admitOp{
		"public pull":  podmanPull("public/app:one"),
		"private pull": podmanPull("private/app:one"),
		"push": func(t *testing.T, p tool, c admitCell) []string {
			ref := c.ref("private/pushed-" + c.name + ":one")
			b := p.run(t, "from", "scratch")
			p.run(t, "commit", "--rm", b, ref)
			return []string{"push", "--tls-verify=false", ref}
		},
	},
	unauthorized: containersUnauthorized, wrong: "invalid username/password", denied: "denied", expired: containersExpired,
}

var admitCrane = admitClient{
	make: func(t *testing.T, c admitCell) tool { return toolAt(t, c, "crane", "--insecure") },
	ops: map[string]admitOp{
		"public pull":  cranePull("public/app:one"),
		"private pull": cranePull("private/app:one"),
		"push": func(t *testing.T, _ tool, c admitCell) []string {
			return []string{"append", "--base", "", "--new_layer", layer(t, c.name), "--new_tag", c.ref("private/pushed-" + c.name + ":one")}
		},
		"mount": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"copy", c.ref("private/app:one"), c.ref("private/mounted-" + c.name + ":one")}
		},
		"delete": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"delete", c.ref("private/doomed-" + c.name + ":one")}
		},
		"catalogue": func(_ *testing.T, _ tool, c admitCell) []string { return []string{"catalog", c.host} },
	},
	unauthorized: "log in first: docker login 127", wrong: "401|unauthorized", denied: "denied",
	says: map[string]string{"u push": "401 unauthorized"}, // Of an answer without a body it tells no more.
}

func cranePull(name string) admitOp {
	return func(t *testing.T, _ tool, c admitCell) []string {
		return []string{"pull", "--format", "oci", c.ref(name), filepath.Join(t.TempDir(), "layout")}
	}
}

var admitRegclient = admitClient{
	make: func(t *testing.T, c admitCell) tool {
		return toolAt(t, c, "regclient", "--host", "reg="+c.host+",tls=disabled")
	},
	ops: map[string]admitOp{
		"public pull":  regclientPull("public/app:one"),
		"private pull": regclientPull("private/app:one"),
		"push": func(t *testing.T, _ tool, c admitCell) []string {
			dir, _ := layout(t, c.name)
			return []string{"image", "copy", "ocidir://" + dir + ":x", c.ref("private/pushed-" + c.name + ":one")}
		},
		"mount": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"image", "copy", c.ref("private/app:one"), c.ref("private/mounted-" + c.name + ":one")}
		},
		"delete": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"tag", "delete", c.ref("private/doomed-" + c.name + ":one")}
		},
		"catalogue": func(_ *testing.T, _ tool, c admitCell) []string { return []string{"repo", "ls", c.host} },
	},
	unauthorized: "unauthorized", wrong: "unauthorized", denied: "forbidden|denied",
	// It logs in only where it must, and knows itself when a token ends.
	says: map[string]string{"w public pull": "", "e private pull": "unauthorized"},
}

func regclientPull(name string) admitOp {
	return func(t *testing.T, _ tool, c admitCell) []string {
		return []string{"image", "copy", c.ref(name), "ocidir://" + t.TempDir() + ":x"}
	}
}

var admitRegctl = admitClient{
	make: func(t *testing.T, c admitCell) tool {
		p := toolAt(t, c, "true")
		var err error
		if p.path, err = regctl(); err != nil {
			t.Fatal(err)
		}
		return p
	},
	ops: map[string]admitOp{
		"public pull":  regctlPull("public/app:one"),
		"private pull": regctlPull("private/app:one"),
		"push": func(t *testing.T, _ tool, c admitCell) []string {
			dir, _ := layout(t, c.name)
			return []string{"cp", "oci:" + dir + ":x", c.ref("private/pushed-" + c.name + ":one")}
		},
		"mount": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"cp", c.ref("private/app:one"), c.ref("private/mounted-" + c.name + ":one")}
		},
		"delete": func(_ *testing.T, _ tool, c admitCell) []string {
			return []string{"rm", c.ref("private/doomed-" + c.name + ":one")}
		},
		"catalogue": func(_ *testing.T, _ tool, c admitCell) []string { return []string{"ls", c.host} },
	},
	unauthorized: "login", wrong: "login", denied: "denied|not allowed",
}

func regctlPull(name string) admitOp {
	return func(t *testing.T, _ tool, c admitCell) []string {
		return []string{"cp", c.ref(name), "oci:" + t.TempDir() + ":x"}
	}
}

// curl is as people write it in scripts: the login is sent unasked, and without
// one a token is asked for by hand.
var admitCurl = admitClient{
	make: func(t *testing.T, _ admitCell) tool { return newTool(t, "sh", "-ec") },
	ops: map[string]admitOp{
		"public pull":  curlOp("repository:public/app:pull", "/v2/public/app/manifests/one"),
		"private pull": curlOp("repository:private/app:pull", "/v2/private/app/manifests/one"),
		"push": func(t *testing.T, p tool, c admitCell) []string {
			repo := "private/pushed-" + c.name
			return curlScript(t, p, c, "repository:"+repo+":pull,push", `
put() {
	d=sha256:$(printf %s "$1" | sha256sum | cut -d' ' -f1)
	at=$(c -D - -o /dev/null -X POST "$URL/v2/`+repo+`/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p' | sed "s#^/#$URL/#")
	c -X PUT -H 'Content-Type: application/octet-stream' --data-binary "$1" "$at?digest=$d"
}
put '{}'
c -X PUT -H 'Content-Type: `+oci.MediaTypeManifest+`' --data-binary '{"schemaVersion":2,"mediaType":"`+oci.MediaTypeManifest+`","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"'$d'","size":2},"layers":[]}' "$URL/v2/`+repo+`/manifests/one"`)
		},
		"delete": func(t *testing.T, p tool, c admitCell) []string {
			repo := "private/doomed-" + c.name
			return curlScript(t, p, c, "repository:"+repo+":delete", `c -X DELETE "$URL/v2/`+repo+`/manifests/one"`)
		},
		"catalogue": curlOp("registry:catalog:*", "/v2/_catalog"),
	},
	unauthorized: "401", wrong: "401", denied: "403", expired: "401",
}

func curlOp(scope, path string) admitOp {
	return func(t *testing.T, p tool, c admitCell) []string {
		return curlScript(t, p, c, scope, `c "$URL`+path+`"`)
	}
}

func curlScript(t *testing.T, _ tool, c admitCell, scope, script string) []string {
	t.Helper()
	peer(t, "curl")
	const accept = `-H 'Accept: ` + oci.MediaTypeManifest + `' `
	auth := `-u '` + c.login + `' `
	if c.login == "" || strings.HasPrefix(c.name, "expired") {
		auth = fmt.Sprintf(`-H "Authorization: Bearer $(curl -sSf %s"$URL/v2/_token?service=%s&scope=%s" | sed 's/.*"token":"\([^"]*\)".*/\1/')" `,
			map[bool]string{true: auth}[c.login != ""], c.host, scope)
	}
	return []string{"URL=http://" + c.host + "\nc() { curl -sSf " + accept + auth + `"$@"; }` + "\n" + script}
}
