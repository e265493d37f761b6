package dptest

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// isolatedVariable tells a process of a test run how [Isolate] went.
const isolatedVariable = "DPTEST_ISOLATED"

const (
	isolating    = "now" // in the namespace, without loopback as yet
	isolated     = "yes"
	notIsolated  = "no"
	notPermitted = 125 // exit status of a process that could not raise loopback
	capNetAdmin  = 12  // what that takes
)

// Isolate moves a test run into a network namespace of its own, where no other
// program takes a port that a test has picked, and where the kernel's settings
// are its defaults. It runs the test binary again there and exits as that did:
// it returns only in the second process, and where namespaces are not
// permitted. A TestMain calls it first of all; [Main] does so itself.
func Isolate() {
	switch os.Getenv(isolatedVariable) {
	case "":
		// A test binary that poses as another program is not a test run.
		if !slices.ContainsFunc(os.Args[1:], func(arg string) bool { return strings.HasPrefix(arg, "-test.") }) {
			return
		}
		status, err := runIsolated()
		if err == nil && status != notPermitted {
			os.Exit(status)
		}
		os.Setenv(isolatedVariable, notIsolated)
	case isolating:
		if RaiseLoopback() != nil {
			os.Exit(notPermitted)
		}
		os.Setenv(isolatedVariable, isolated)
	}
}

// runIsolated runs the present command line once more in a new network
// namespace, and returns its exit status, or why it could not be started.
func runIsolated() (status int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolatedVariable+"="+isolating)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		// The user stays who it is, so that tests of what it may not do hold.
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{capNetAdmin}
	}
	// The death signal comes when the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	// The go tool asks for a stack trace when a test takes too long.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT)
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may just have ended
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	close(signals)
	<-passed
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() < 0 {
		return 2, nil // killed by a signal
	}
	return cmd.ProcessState.ExitCode(), nil
}
