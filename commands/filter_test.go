package commands

import "testing"

func TestFilter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		include, exclude []string
		name             string
		want             bool
	}{
		{nil, nil, "a/b", true},
		{[]string{"*"}, nil, "a", true},
		{[]string{"*"}, nil, "a/b", false},
		{[]string{"**"}, nil, "a/b", true},
		{[]string{"a/*"}, nil, "a/b", true},
		{[]string{"a/*"}, nil, "a/b/c", false},
		{[]string{"a/**"}, nil, "a/b/c", true},
		{[]string{"a"}, nil, "ab", false},
		{[]string{"a.c"}, nil, "abc", false},
		{[]string{"v?"}, nil, "v1", true},
		{[]string{"v?"}, nil, "v/", false},
		{[]string{"v[0-9]"}, nil, "v7", true},
		{[]string{"v[!0-9]"}, nil, "v7", false},
		{[]string{"v[!0-9]"}, nil, "vx", true},
		{[]string{"v["}, nil, "v[", true},
		{[]string{"v[]x"}, nil, "v[]x", true},
		{[]string{"/^v\\d+$/"}, nil, "v17", true},
		{[]string{"/b/"}, nil, "abc", true},
		{[]string{"x", "a*"}, nil, "abc", true},
		{nil, []string{"a*"}, "abc", false},
		{[]string{"a*"}, []string{"*c"}, "abc", false},
		{[]string{"a*"}, []string{"*d"}, "abc", true},
		{[]string{"/"}, nil, "/", true},
		{[]string{"ü*"}, nil, "über", true},
	} {
		f, err := newFilter(c.include, c.exclude)
		if err != nil || f.keeps(c.name) != c.want {
			t.Errorf("include %q, exclude %q, %q: got %v, %v", c.include, c.exclude, c.name, !c.want, err)
		}
	}
	for _, bad := range []string{"/[/", "[b-a]"} {
		if _, err := newFilter(nil, []string{bad}); exitStatus(err) != exitUsage {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// TestFilterSkips: a repository may be skipped only if none of its tags stays.
func TestFilterSkips(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		include, exclude []string
		skips            bool
	}{
		{nil, nil, false},
		{[]string{"team/*"}, nil, false},
		{[]string{"other"}, nil, true},
		{[]string{"other", "**:1"}, nil, false},
		{[]string{"other", "/x/"}, nil, false},
		{nil, []string{"team/app"}, true},
		{nil, []string{"**:1"}, false},
		{nil, []string{"/./"}, false},
		{[]string{"team/app"}, []string{"team/*"}, true},
	} {
		f, err := newFilter(c.include, c.exclude)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.skips("team/app"); got != c.skips {
			t.Errorf("include %q, exclude %q: skips %v", c.include, c.exclude, got)
		}
		if c.skips && (f.keepsTag("team/app", "1") || f.keepsTag("team/app", "x")) {
			t.Errorf("include %q, exclude %q: skipped, yet a tag stays", c.include, c.exclude)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("a/**:[!x]?", "a/b:y1")
	f.Add("/^a.*/", "abc")
	f.Fuzz(func(_ *testing.T, glob, name string) {
		if flt, err := newFilter([]string{glob}, nil); err == nil {
			flt.keeps(name)
			flt.keepsTag(name, name)
		}
	})
}
