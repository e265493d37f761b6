// Package proc reads what a process has used, from the outside and from /proc,
// and starts the processes that take part in a benchmark.
package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tree returns pid and its descendants, parents first. A process that is gone
// has none.
func Tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		// A thread of it may be the parent of a child.
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[i]))
		for _, task := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pids[i], task.Name()))
			for child := range strings.FieldsSeq(string(text)) {
				if n, err := strconv.Atoi(child); err == nil {
					pids = append(pids, n)
				}
			}
		}
	}
	return pids
}

// CPU is the processor time that the processes have used so far, user and
// system together, of all their threads, also those that have ended. It comes
// from the scheduler's clock of the process and is exact to nanoseconds, where
// the fields in /proc/PID/stat are cut to 10 ms.
func CPU(pids ...int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		// The clock's number as clock_getcpuclockid(3) makes it: the inverted
		// pid, and 2 for "time scheduled".
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil {
			return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// RSS is the resident memory of the processes in bytes. What they share is
// counted for each.
func RSS(pids ...int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		kb, err := status(pid, "VmRSS")
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(kb, " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process %d: VmRSS: %w", pid, err)
		}
		sum += n << 10
	}
	return sum, nil
}

// Files is how many descriptors the processes have open.
func Files(pids ...int) (int, error) {
	sum := 0
	for _, pid := range pids {
		entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return 0, err
		}
		sum += len(entries)
	}
	return sum, nil
}

// Catches reports whether the process has a handler for the signal: sent to one
// that has none, it would end it.
func Catches(pid int, sig unix.Signal) bool {
	text, err := status(pid, "SigCgt")
	if err != nil {
		return false
	}
	mask, err := strconv.ParseUint(text, 16, 64)
	return err == nil && mask&(1<<(sig-1)) != 0
}

// status returns a field of /proc/PID/status.
func status(pid int, field string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && name == field {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("process %d has no %s in its status", pid, field)
}
