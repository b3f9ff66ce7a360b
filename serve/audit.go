package serve

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/auth/token"
)

// auditRecord is a line of the audit log: who did what, or was not let.
type auditRecord struct {
	Time       time.Time `json:"time"`
	Action     string    `json:"action"`  // login, pull, push, delete or list; of a robot create or revoke; configure; audit.
	Outcome    string    `json:"outcome"` // ok, denied or failed.
	Status     int       `json:"status,omitempty"`
	Who        string    `json:"who,omitempty"` // As in rules: user:NAME, robot:NAME or anonymous.
	Credential string    `json:"credential,omitempty"`
	Source     string    `json:"source,omitempty"`
	Address    string    `json:"address,omitempty"`
	Request    string    `json:"request,omitempty"`
	Agent      string    `json:"agent,omitempty"`
	Repository string    `json:"repository,omitempty"`
	Tag        string    `json:"tag,omitempty"`
	Digest     string    `json:"digest,omitempty"`
	Reason     string    `json:"reason,omitempty"` // The rule that denied it, or what went wrong.
}

// The outcomes of what is recorded.
const (
	auditOK     = "ok"
	auditDenied = "denied"
	auditFailed = "failed"
)

const actionLogin = "login"

// audit records a request that is over, if it is one to be recorded.
func (h *Handler) audit(ctx context.Context, w *response, q *request, err error) {
	on, pulls := h.o.audit.wants()
	if !on {
		return
	}
	r := q.audited(ctx, w, err)
	if r.Action == "" || r.Action == "pull" && r.Outcome != auditDenied && !pulls {
		return
	}
	r.Status = w.outcome()
	caller := oci.CallerFrom(ctx)
	r.Address, r.Request, r.Agent = caller.Addr, caller.RequestID, caller.UserAgent
	if r.Action == actionLogin {
		h.o.audit.add(r)
		return
	}
	if q.repo != "" && oci.CheckRepo(q.repo) == nil {
		r.Repository = q.repo
	}
	if r.Digest = w.Header().Get("Docker-Content-Digest"); r.Digest == "" {
		r.Digest = string(q.digest)
	}
	tags := q.tagsOf()
	most := 10
	if r.Who == "anonymous" {
		most = 1
	}
	if r.Outcome != auditOK && len(tags) > most { // Who may do nothing fills no disk.
		tags = tags[:most]
	}
	for _, tag := range tags {
		r.Tag = clip(tag, 128)
		h.o.audit.add(r)
	}
}

// audited is what is recorded of a request, without what is on every line. No
// Action: nothing is.
func (q *request) audited(ctx context.Context, w *response, err error) auditRecord {
	if r, ok := q.refusal(err); ok {
		return r
	}
	var denied *auth.DeniedError
	s := q.session
	r := auditRecord{Who: whoIs(s)}
	if s != nil {
		r.Credential, r.Source = s.Credential, s.Source
	}
	switch {
	case errors.As(err, &denied):
		// Without a token clients ask what for they need one, and with a narrow
		// one they go and get another.
		if !denied.Narrow && s != nil && (s.Kind != rule.Anonymous || s.Scoped) {
			r.Action, r.Outcome, r.Reason = q.action(), auditDenied, denied.Reason
		}
		return r
	case errors.Is(err, oci.Unauthorized):
		return r
	}
	switch q.kind {
	case kindPing, kindTokenGet, kindTokenPost:
		if s != nil && s.Kind != rule.Anonymous && s.Credential != "token" {
			r.Action = actionLogin
		}
	case kindManifestPut, kindManifestDelete, kindBlobDelete, kindRepoDelete, kindManifestGet:
		r.Action = q.action()
	}
	switch r.Outcome = auditOK; {
	case err != nil:
		r.Outcome, r.Reason = auditFailed, oci.AsError(err).Error()
	case w.outcome() >= http.StatusBadRequest:
		r.Outcome = auditFailed
	}
	return r
}

// refusal is the record of credentials that were not taken. Those that were
// good once, and end by themselves, are none.
func (q *request) refusal(err error) (r auditRecord, ok bool) {
	var challenge *ChallengeError
	var throttled *auth.ThrottledError
	switch {
	case errors.As(err, &throttled):
		return auditRecord{Action: actionLogin, Outcome: auditDenied, Who: q.claims(), Credential: "password", Reason: throttled.Error()}, true
	case errors.Is(err, auth.ErrDenied):
		return auditRecord{Action: actionLogin, Outcome: auditDenied, Who: q.claims(), Credential: "password", Reason: auth.ErrDenied.Error()}, true
	case errors.As(err, &challenge) && challenge.Code == codeInvalid && !errors.Is(challenge.Err, token.ErrExpired):
		reason := challenge.Message
		if challenge.Err != nil {
			reason = challenge.Err.Error()
		}
		return auditRecord{Action: q.action(), Outcome: auditDenied, Credential: "token", Reason: clip(reason, 512)}, true
	}
	return r, false
}

// action is what a request is for.
func (q *request) action() string {
	switch {
	case q.form == formPing, q.form == formToken:
		return actionLogin
	case q.form == formCatalog, q.form == formDeletions:
		return "list"
	case q.Method == http.MethodGet, q.Method == http.MethodHead:
		return "pull"
	case q.Method == http.MethodDelete && q.form != formUpload:
		return "delete"
	}
	return "push"
}

// claimed is who somebody says to be, as rules have it. A wrong name may be a
// password that went into the wrong field, but without it nobody sees who is
// attacked.
func claimed(name, password string) string {
	const ofRobots = "regctl_" // Begins their passwords.
	if strings.HasPrefix(password, ofRobots) {
		return "robot:" + clip(name, 255)
	}
	return "user:" + clip(name, 255)
}

// claims is who made q says to be.
func (q *request) claims() string {
	if q.tried != "" {
		return q.tried
	}
	name, password, _ := q.BasicAuth()
	return claimed(name, password)
}

// whoIs writes who has a session as rules do.
func whoIs(s *auth.Session) string {
	switch {
	case s == nil || s.Kind == rule.Anonymous:
		return "anonymous"
	case s.Kind == rule.Robot:
		return s.String()
	}
	return "user:" + s.Name
}

// tagsOf are the tags that a request is about; one that is empty if it is about
// none.
func (q *request) tagsOf() []string {
	switch {
	case q.form != formManifest:
	case !oci.IsDigest(q.ref):
		return []string{q.ref}
	case q.Method == http.MethodPut:
		if tags := q.URL.Query()["tag"]; len(tags) > 0 {
			return tags
		}
	}
	return []string{""}
}
