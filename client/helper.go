package client

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os/exec"
	"time"

	helpers "github.com/docker/docker-credential-helpers/client"
)

// tokenUser is the user name under which helpers keep identity tokens.
const tokenUser = "<token>"

// helperCall is the use of a credential helper for some time at most: one that
// waits for a window that nobody sees is given up.
type helperCall struct {
	name    string // Of the program.
	program helpers.ProgramFunc
	cancel  context.CancelFunc
	failed  func(error) error // Says which helper it was, and that it was too slow.
}

func newHelperCall(ctx context.Context, helper string, environ []string, timeout time.Duration) *helperCall {
	timeout = cmp.Or(timeout, 10*time.Second)
	limited, cancel := context.WithTimeout(ctx, timeout)
	name := "docker-credential-" + helper
	return &helperCall{
		name: name, cancel: cancel,
		program: func(args ...string) helpers.Program {
			cmd := exec.CommandContext(limited, name, args...)
			cmd.Env = environ
			cmd.WaitDelay = time.Second // For what the helper started and left behind.
			return (*helperProgram)(cmd)
		},
		failed: func(err error) error {
			switch {
			case err == nil:
				return nil
			case ctx.Err() != nil:
				return ctx.Err()
			case isMissing(name):
				return fmt.Errorf("%s is not to be found", name)
			case limited.Err() != nil:
				return fmt.Errorf("%s did not answer within %s", name, timeout)
			}
			return fmt.Errorf("%s: %w", name, err)
		},
	}
}

func isMissing(program string) bool {
	_, err := exec.LookPath(program)
	return err != nil
}

// helperProgram runs a helper and keeps what it says on stderr out of ours.
type helperProgram exec.Cmd

// Input sets what the helper reads.
func (p *helperProgram) Input(r io.Reader) { p.Stdin = r }

// Output runs the helper.
func (p *helperProgram) Output() ([]byte, error) { return (*exec.Cmd)(p).Output() }
