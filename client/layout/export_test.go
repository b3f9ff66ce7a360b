package layout

import "time"

// DirOf tells where a layout is.
func DirOf(d *Directory) string { return d.dir }

// SetNow gives a layout another clock.
func SetNow(d *Directory, now func() time.Time) { d.now = now }
