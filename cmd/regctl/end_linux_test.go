package main_test

import (
	"os/exec"
	"syscall"
)

// endWithTests makes a program end with this process, however that ends: a
// test that runs into its time limit cleans nothing up.
func endWithTests(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig == 0 {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
}
