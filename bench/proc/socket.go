package proc

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// States of a socket in /proc/net/tcp.
const (
	established = "01"
	listening   = "0A"
)

// Listening returns the local IPv4 ports that somebody listens at.
func Listening() (map[uint16]bool, error) {
	ports := make(map[uint16]bool)
	err := sockets(func(s socket) bool {
		if s.state == listening {
			ports[s.local] = true
		}
		// The kernel lists the listening ones first.
		return s.state == listening
	})
	return ports, err
}

// ConnectedTo is how many IPv4 connections the process has to a port.
func ConnectedTo(pid int, port uint16) (int, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	own := make(map[string]bool)
	for _, e := range entries {
		target, _ := os.Readlink(dir + "/" + e.Name())
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	n := 0
	err = sockets(func(s socket) bool {
		if s.state == established && s.remote == port && own[s.inode] {
			n++
		}
		return true
	})
	return n, err
}

// socket is a line of /proc/net/tcp.
type socket struct {
	local, remote uint16
	state, inode  string
}

// sockets calls each for all IPv4 TCP sockets until it returns false.
func sockets(each func(socket) bool) error {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Scan() // heading
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		if !each(socket{portOf(f[1]), portOf(f[2]), f[3], f[9]}) {
			return nil
		}
	}
	return lines.Err()
}

// portOf returns the port in 0100007F:1F90.
func portOf(addr string) uint16 {
	_, hex, _ := strings.Cut(addr, ":")
	port, _ := strconv.ParseUint(hex, 16, 16)
	return uint16(port)
}
