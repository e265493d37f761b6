package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"dill/controlplane/config"
)

// terminal is a pair of pseudo terminals: what is written to the one is read from
// the other.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	must(t, unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	must(t, err)
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	must(t, err)
	t.Cleanup(func() { _ = tty.Close() })
	return tty, screen
}

// On a terminal the log is for people, in colour unless NO_COLOR is set; in
// files and pipes, and where log.format says so, it is as ever.
func TestLogOnATerminal(t *testing.T) {
	const (
		people   = `^\d\d:\d\d:\d\d WARN  cannot bind  source=file err="a b"\r?\n$`
		coloured = `^\d\d:\d\d:\d\d \x1b\[33mWARN\x1b\[0m  cannot bind  source=file err="a b"\r?\n$`
		text     = `^time=\S+T\S+ level=WARN msg="cannot bind" source=file err="a b"\r?\n$`
		json     = `^{"time":"\S+","level":"WARN","msg":"cannot bind","source":"file","err":"a b"}\r?\n$`
	)
	for _, tt := range []struct {
		name, format, want string
		environ            []string
		pipe               bool
	}{
		{name: "terminal", format: "auto", want: coloured},
		{name: "no colour", format: "auto", environ: []string{"NO_COLOR=1"}, want: people},
		{name: "NO_COLOR is empty", format: "auto", environ: []string{"NO_COLOR="}, want: coloured},
		{name: "dumb", format: "auto", environ: []string{"TERM=dumb"}, want: people},
		{name: "text on a terminal", format: "text", want: text},
		{name: "json on a terminal", format: "json", want: json},
		{name: "pipe", format: "auto", pipe: true, want: text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, screen := terminal(t)
			if tt.pipe {
				var err error
				screen, out, err = os.Pipe()
				must(t, err)
				defer screen.Close()
				defer out.Close()
			}
			l := newLogging(out, config.Log{Level: slog.LevelInfo, Format: tt.format}, tt.environ)
			l.log.Debug("not severe")
			l.log.With(keySource, "file").Warn("cannot bind", keyErr, "a b")
			got := make([]byte, 1024)
			n, err := screen.Read(got)
			must(t, err)
			if !regexp.MustCompile(tt.want).Match(got[:n]) {
				t.Errorf("%q\nwant %s", got[:n], tt.want)
			}
		})
	}
}

func TestConsoleLineWithoutAttributes(t *testing.T) {
	var b bytes.Buffer
	slog.New(newConsole(&b, slog.LevelInfo, false)).Info("dill ended")
	if !strings.HasSuffix(b.String(), " INFO  dill ended\n") {
		t.Errorf("%q", &b)
	}
}

func TestLogFormats(t *testing.T) {
	for _, format := range []string{"auto", "text", "json"} {
		var b bytes.Buffer
		l := newLogging(&b, config.Log{Level: slog.LevelWarn, Format: format}, nil)
		l.log.Info("not severe")
		l.level.Set(slog.LevelInfo)
		l.log.Info("severe enough", keyPath, "x")
		l.flush()
		if got := b.String(); strings.Contains(got, "not severe") || !strings.Contains(got, "severe enough") ||
			json.Valid(b.Bytes()) != (format == "json") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
