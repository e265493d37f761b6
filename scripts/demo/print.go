package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// bold, dim and plain are the terminal's codes, empty when stdout is none.
var bold, dim, plain = func() (string, string, string) {
	info, err := os.Stdout.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 || os.Getenv("NO_COLOR") != "" {
		return "", "", ""
	}
	return "\x1b[1m", "\x1b[2m", "\x1b[0m"
}()

// heading begins an act.
func heading(format string, args ...any) {
	fmt.Printf("\n%s%s%s\n", bold, fmt.Sprintf(format, args...), plain)
}

// say prints one line of an act.
func say(format string, args ...any) {
	fmt.Printf("   %s\n", fmt.Sprintf(format, args...))
}

// command prints what one would type to see the same.
func command(format string, args ...any) {
	fmt.Printf("   %s$ %s%s\n", dim, fmt.Sprintf(format, args...), plain)
}

// quote prints text as it is, set apart.
func quote(text string) {
	for line := range strings.Lines(text) {
		fmt.Println(strings.TrimRight("     "+line, " \n"))
	}
}

// since says how long it took from one moment to the other, as one would.
func since(from, to time.Time) string {
	d := to.Sub(from)
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// printHowToPlay says what to do with a demo that keeps running.
func (s *stage) printHowToPlay() {
	peek := strings.Replace(s.peekAddr, ":", " ", 1)
	port, err := freePort()
	if err != nil {
		port = 30000
	}
	heading("It is yours until Ctrl-C")
	say("See the table:")
	command("nc %s", peek)
	say("Send requests:")
	command("curl %s", s.greeter)
	say("Open a port of your own, here for the backend of %s, and close it again:", tickerName)
	command(`curl -X PUT %s/v1/agent/service/register -d '{"Name": "mine", "Address": "127.0.0.1", "Port": %d, "Tags": ["dill", "dill.listener=local:%d"]}'`,
		s.consul.Addr(), s.clock.port, port)
	command("curl 127.0.0.1:%d", port)
	command("curl -X PUT %s/v1/agent/service/deregister/mine", s.consul.Addr())
	say("Kill a backend and look at the table again:")
	command("kill -9 %d    # %s", s.backends[0].pid(), s.backends[0].name)
	say("dill's counters, in its log:")
	command("kill -USR1 %d; tail %s", s.dill.pid(), s.dillLog())
	say("Consul's own pages are at %s/ui.", s.consul.Addr())
}

// printDillLog shows the end of dill's log, for a demo that failed.
func (s *stage) printDillLog() {
	text, err := os.ReadFile(s.dillLog())
	if err != nil || len(text) == 0 {
		return
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	lines = lines[max(0, len(lines)-20):]
	fmt.Fprintf(os.Stderr, "\nThe last of dill's log:\n%s\n", strings.Join(lines, "\n"))
}
