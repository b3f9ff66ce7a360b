package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

// Forget forgets what all endpoints but these were to be told more than a day
// ago, and logs what else waits: a configuration may lack them by mistake. That
// it cannot is logged, too.
func Forget(ctx context.Context, left Remains, log *slog.Logger, now time.Time, names ...string) {
	err := left.KeepEndpoints(ctx, now.Add(-giveUpAfter), names...)
	var counts []state.EventCount
	if err == nil {
		counts, err = left.EventCounts(ctx)
	}
	if err != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "notifications for endpoints that are no more stay", slog.Any("error", err))
		return
	}
	for _, c := range counts {
		if c.Pending > 0 && !slices.Contains(names, c.Endpoint) {
			log.LogAttrs(ctx, slog.LevelWarn, "an endpoint is not configured any more: what it was still to be told is kept for a day, in case it comes back",
				slog.String("endpoint", c.Endpoint), slog.Int("count", c.Pending))
		}
	}
}

// settleAtOnce is how many events are settled at once.
const settleAtOnce = 256

// settleAll settles what was announced by a process that is no more.
func (n *Notifier) settleAll(ctx context.Context) {
	sent, dropped := 0, 0
	for after := int64(0); ; {
		es, err := n.outbox.AnnouncedEvents(ctx, after, settleAtOnce)
		if err != nil {
			n.warn(ctx, "cannot read which notifications were about to be sent", err)
		}
		if len(es) == 0 {
			break
		}
		after = es[len(es)-1].ID
		yes, no := n.settle(ctx, es)
		n.outbox.Happened(yes...)
		n.outbox.Done(no...)
		sent, dropped = sent+len(yes), dropped+len(no)
	}
	if sent+dropped == 0 {
		return
	}
	n.o.Log.LogAttrs(ctx, slog.LevelInfo, "notifications of what was going on when the last server ended",
		slog.Int("happened", sent), slog.Int("did_not_happen", dropped))
	if err := n.outbox.FlushEvents(ctx); err != nil {
		n.warn(ctx, "cannot write which notifications are to be sent", err)
	}
}

// settle tells what of es happened and what did not. What cannot be told is
// logged, and left for the next start.
func (n *Notifier) settle(ctx context.Context, es []state.Event) (yes, no []int64) {
	for _, e := range es {
		took, err := tookEffect(ctx, n.layout, e)
		switch {
		case err != nil:
			n.warn(ctx, fmt.Sprintf("cannot tell whether to notify %s of the %s of %s:%s %s; the next start tries again", e.Endpoint, e.Action, e.Repo, e.Tag, e.Digest), err)
		case took:
			yes = append(yes, e.ID)
		default:
			no = append(no, e.ID)
		}
	}
	return yes, no
}

// tookEffect tells whether a registry is as it is after e.
func tookEffect(ctx context.Context, l Layout, e state.Event) (bool, error) {
	there, err := isThere(ctx, l, e)
	return there != (e.Action == ActionDelete), err
}

func isThere(ctx context.Context, l Layout, e state.Event) (bool, error) {
	var err error
	switch e.Kind {
	case state.KindTag:
		var at oci.Digest
		at, err = l.TagAt(ctx, e.Repo, e.Tag)
		if err == nil && e.Digest != "" {
			if at != e.Digest {
				return false, nil
			}
			_, err = l.Resolve(ctx, e.Repo, string(e.Digest))
		}
	case state.KindManifest:
		_, err = l.Resolve(ctx, e.Repo, string(e.Digest))
	case state.KindBlob:
		_, err = l.StatBlob(ctx, e.Repo, e.Digest)
	default:
		for _, err = range l.Tags(ctx, e.Repo, "") {
			break
		}
	}
	for _, missing := range []oci.Code{oci.ManifestUnknown, oci.BlobUnknown, oci.NameUnknown} {
		if errors.Is(err, missing) {
			return false, nil
		}
	}
	return err == nil, err
}
