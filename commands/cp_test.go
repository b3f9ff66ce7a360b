package commands

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/transfer"
)

// TestCpNames: what the arguments of cp mean.
func TestCpNames(t *testing.T) {
	t.Parallel()
	const sha = "sha256:e097b542bc9c48a2e46db9717c38a36f2a608c2a794ae098ecb4c8415f4ad090"
	for _, test := range []struct{ args, want string }{
		{"docker.io/alpine:3.20 localhost:5000/alpine", "docker.io library/alpine:3.20 > localhost:5000 alpine:[3.20]"},
		{"docker.io/alpine localhost:5000/", "docker.io library/alpine:latest > localhost:5000 alpine:[latest]"},
		{"docker.io/team/app:1 docker.io/team/web", "docker.io team/app:1 > docker.io team/web:[1]"},
		{"app:v1 app:v2,v3,latest", "localhost:5000 app:v1 > localhost:5000 app:[v2 v3 latest]"},
		{"app@" + sha + " example.com/", "localhost:5000 app:" + sha + " > example.com app:[]"},
		{"app@" + sha + " example.com/app:1", "localhost:5000 app:" + sha + " > example.com app:[1]"},
		{"app:v1 oci:dir", "localhost:5000 app:v1 > oci:dir layout:[v1]"},
		{"oci:dir:2 app", "oci:dir layout:2 > localhost:5000 app:[2]"},
		{"-a app http://example.com/x", "localhost:5000 app: > http://example.com x:[]"},
	} {
		var got string
		cmd := newCp(newTestEnv(nil).Env, func(_ context.Context, env *Env, o *cpOptions) error {
			c, err := newCopier(env, o)
			if err != nil {
				return err
			}
			got = fmt.Sprintf("%s %s:%s > %s %s:%v", c.src.address(), c.item.SrcRepo, c.item.SrcRef, c.dst.address(), c.item.DstRepo, c.item.DstTags)
			return nil
		})
		cmd.SetArgs(strings.Fields(test.args))
		if err := cmd.Execute(); err != nil || got != test.want {
			t.Errorf("cp %s: %s, %v, want %s", test.args, got, err, test.want)
		}
	}
}

// TestCpOptions: what the flags of cp mean.
func TestCpOptions(t *testing.T) {
	t.Parallel()
	cmd := newCp(newTestEnv(nil).Env, func(_ context.Context, env *Env, o *cpOptions) error {
		c, err := newCopier(env, o)
		if err != nil {
			return err
		}
		p := c.options
		if len(p.Platforms) != 2 || p.Platforms[1].Architecture != "arm64" || p.Referrers != transfer.ReferrersAlways ||
			p.Jobs != 3 || !p.NoOverwrite || !p.NewTags || !p.Force || !o.Quiet || !o.DryRun || !o.ExitCode {
			t.Errorf("options %+v of %+v", p, o)
		}
		if !c.item.Keep("1.0") || c.item.Keep("2.0") || c.item.Keep("1.0-dev") {
			t.Error("other tags are kept")
		}
		return nil
	})
	cmd.SetArgs(strings.Fields("app example.com/ -a --platform linux/amd64,linux/arm64 --referrers always -j 3 --no-overwrite --new-tags " +
		"--force -q -n --exit-code --include 1.* --exclude *-dev"))
	if err := cmd.Execute(); err != nil {
		t.Error(err)
	}
}

// TestCpRefuses command lines that make no sense.
func TestCpRefuses(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	for args, want := range map[string]string{
		"cp app":                      "cp needs two names: regctl cp SRC DST; see: regctl cp --help\n",
		"cp a b c":                    "regctl cp takes no argument \"c\"; see: regctl cp --help\n",
		"cp localhost:1 b":            "localhost:1 is a registry; name what to copy: regctl cp localhost:1/REPO:TAG DST\n",
		"cp a:v b:v --new-tags":       "--new-tags chooses among the tags of --all; for one image: --no-overwrite\n",
		"cp a:v b:v --exit-code":      "--exit-code goes with --dry-run\n",
		"cp -a a b:v":                 "b:v is one tag, and --all copies all of a repository\n",
		"cp -a a:v b":                 "a:v is one image, and --all is for the tags of a repository\n",
		"cp oci:dir:1 localhost:1/":   "localhost:1/ names no repository, and neither does oci:dir:1\n",
		"cp a:v b:v --platform linux": "--platform: platform \"linux\": OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64\n",
	} {
		env.run(t, args, exitUsage, "", want)
	}
}
