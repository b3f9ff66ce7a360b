package main_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestAdmissionOfDocker is TestAdmissionOfClients for those that have a daemon.
func TestAdmissionOfDocker(t *testing.T) {
	t.Run("docker", func(t *testing.T) {
		t.Parallel()
		exerciseAdmission(t, admitDocker(startDockerd(t)))
	})
	t.Run("ctr", func(t *testing.T) {
		t.Parallel()
		exerciseAdmission(t, admitCtr(startContainerd(t)))
	})
}

func admitDocker(d tool) admitClient {
	pull := func(name string) admitOp {
		return func(t *testing.T, p tool, c admitCell) []string {
			p.run(t, "images")
			for _, id := range strings.Fields(d.run(t, "images", "-q")) {
				d.run(t, "rmi", "-f", id)
			}
			return []string{"pull", c.ref(name)}
		}
	}
	return admitClient{
		make: func(t *testing.T, c admitCell) tool {
			home := t.TempDir()
			writeDockerLogin(t, home, c.host, c.login)
			return tool{path: d.path, env: append(slices.Clone(d.env), "HOME="+home)}
		},
		ops: map[string]admitOp{
			"public pull":  pull("public/app:one"),
			"private pull": pull("private/app:one"),
			"push": func(t *testing.T, p tool, c admitCell) []string {
				ref := c.ref("private/pushed-" + c.name + ":one")
				p.run(t, "import", layer(t, ref), ref)
				return []string{"push", ref}
			},
			"mount": func(t *testing.T, p tool, c admitCell) []string {
				from, ref := c.ref("public/from-"+c.name+":one"), c.ref("private/mounted-"+c.name+":one")
				p.run(t, "import", layer(t, from), from)
				good := c
				good.login = admitGood
				home := t.TempDir()
				writeDockerLogin(t, home, good.host, good.login)
				tool{path: p.path, env: append(slices.Clone(d.env), "HOME="+home)}.run(t, "push", from)
				p.run(t, "tag", from, ref)
				return []string{"push", ref}
			},
		},
		unauthorized: "log in first: docker login 127", wrong: "unauthorized|incorrect username or password", denied: "denied: ",
		// It knows when a token ends, and gets another one before; what it cannot
		// mount it sends.
		expired: "unauthorized", says: map[string]string{"e mount": ""},
	}
}

// startContainerd returns ctr with a containerd of its own.
func startContainerd(t *testing.T) tool {
	t.Helper()
	c, daemon := newTool(t, "ctr"), peer(t, "containerd")
	if os.Geteuid() != 0 {
		missing(t, "containerd needs root")
	}
	dir := shortTempDir(t, unmountBelow)
	s := launch(t, exec.Command(daemon, "--config", "/dev/null", "--root", dir+"/root", "--state", dir+"/state", "--address", dir+"/sock"), func(string) {})
	t.Cleanup(func() {
		if err := s.stop(syscall.SIGTERM); err != nil {
			t.Errorf("containerd ended: %v\n%s", err, s.log)
		}
	})
	c.args = []string{"--address", dir + "/sock"}
	s.await(t, func() error {
		cmd := exec.Command(c.path, append(slices.Clone(c.args), "version")...)
		cmd.Env = c.env
		return cmd.Run()
	})
	return c
}

// admitCtr says what containerd is told, as Kubernetes does for its pulls.
func admitCtr(d tool) admitClient {
	login := func(c admitCell, args ...string) []string {
		if c.login != "" {
			args = append(args, "--user", c.login)
		}
		return append(args, "--plain-http")
	}
	pull := func(name string) admitOp {
		return func(_ *testing.T, p tool, c admitCell) []string {
			return append(login(c, "content", "fetch"), c.ref(name))
		}
	}
	return admitClient{
		make: func(*testing.T, admitCell) tool { return d },
		ops: map[string]admitOp{
			"public pull":  pull("public/app:one"),
			"private pull": pull("private/app:one"),
			"push": func(t *testing.T, p tool, c admitCell) []string {
				dir, _ := layout(t, c.name)
				ref, file := c.ref("private/pushed-"+c.name+":one"), t.TempDir()+"/image.tar"
				command(t, "tar", "-C", dir, "-cf", file, ".")
				p.run(t, "images", "import", "--no-unpack", "--digests", "--base-name", "import/"+c.name, file)
				names := strings.Fields(p.run(t, "images", "ls", "-q", "name~=import/"+c.name))
				if len(names) == 0 {
					t.Fatal("ctr has imported nothing")
				}
				p.run(t, "images", "tag", names[0], ref)
				return append(login(c, "images", "push"), ref)
			},
		},
		unauthorized: "401 unauthorized|authorization failed", wrong: "401 unauthorized|authorization failed", denied: "403 forbidden",
		says: map[string]string{"w public pull": ""}, // It logs in only where it must.
	}
}
