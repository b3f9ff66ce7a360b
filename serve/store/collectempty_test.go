package store_test

import (
	"os"
	"testing"
	"time"

	"github.com/regctl/regctl/gc"
	journal "github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/store"
)

// A directory of repositories with nothing in it is one of which all were
// deleted only if that is known: it may be a mount point.
func TestLossOfAllRepositories(t *testing.T) {
	t.Parallel()
	pushed := time.Now()
	before, after := pushed.Add(-time.Hour), pushed.Add(time.Hour)
	for name, c := range map[string]struct {
		records []journal.Deletion
		empty   bool
		gone    bool
	}{
		"nothing is known":              {},
		"one was deleted before a push": {records: []journal.Deletion{{At: before, Kind: journal.KindRepository, Repo: "lib"}}},
		"a tag was deleted":             {records: []journal.Deletion{{At: after, Kind: journal.KindTag, Repo: "lib", Tag: "v1"}}},
		"one was deleted":               {records: []journal.Deletion{{At: after, Kind: journal.KindRepository, Repo: "lib"}}, gone: true},
		"somebody says so":              {empty: true, gone: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			collect := func() gc.Report {
				r, err := store.New(t.Context(), s.disk(), store.Options{Now: later, NoCatalogue: true, Records: records{list: c.records}})
				s.must(err)
				report, err := r.Collect(t.Context(), gc.Options{Untagged: true, Jobs: 2, Empty: c.empty}, false)
				s.must(err)
				return report
			}
			s.must(os.RemoveAll(s.path("repositories")))
			s.must(os.Mkdir(s.path("repositories"), 0o777))
			report := collect()
			s.has(!c.gone, "old", "l2", "child2", "oldlib", "lb", "loose")
			if !c.gone {
				doubts(t, report, store.ErrEmptied.Error())
				return
			}
			if len(report.Doubts) > 0 {
				t.Errorf("doubts %v", report.Doubts)
			}
			c.records, c.empty = nil, false
			if report := collect(); len(report.Doubts) > 0 { // There is no data any more.
				t.Errorf("of nothing there are doubts %v", report.Doubts)
			}
		})
	}
}
