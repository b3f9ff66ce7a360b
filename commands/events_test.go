package commands

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// receivers are those that a script has started, by the variable that has their
// URL.
type (
	receivers    map[string]*receiver
	receiverKey  struct{}
	receiverBody struct{ path, text string }
)

// receiver takes notifications, or answers with another status.
type receiver struct {
	status atomic.Int64
	got    chan receiverBody
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	status := int(r.status.Load())
	w.WriteHeader(status)
	if status < 400 {
		r.got <- receiverBody{q.URL.Path, string(body)}
	}
}

// scriptReceiver is the command
//
//	receiver VAR STATUS
//	receiver -got VAR TEXT...
//
// of scripts: it starts what takes notifications and answers with STATUS, or
// lets it answer so from now on; -got waits for one that has each TEXT in it.
func scriptReceiver(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: receiver VAR STATUS | receiver -got VAR TEXT...")
	}
	all := ts.Value(receiverKey{}).(receivers)
	if args[0] == "-got" {
		b := <-all[args[1]].got
		for _, text := range args[2:] {
			if !strings.Contains(b.text, text) {
				ts.Fatalf("a notification lacks %q:\n%s", text, b.text)
			}
		}
		return
	}
	status, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	r := all[args[0]]
	if r == nil {
		r = &receiver{got: make(chan receiverBody, 100)}
		s := httptest.NewServer(r)
		ts.Defer(s.Close)
		ts.Setenv(args[0], s.URL)
		all[args[0]] = r
	}
	r.status.Store(status)
}
