package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// console is a slog.Handler for people who watch a terminal: the time of day, the
// level, in colour if wanted, the message, and the attributes as in text.
type console struct {
	attrs  slog.Handler // writes the attributes into line
	line   *consoleLine
	colour bool
}

// consoleLine is the line that is being made. All handlers with one origin share
// it.
type consoleLine struct {
	mu  sync.Mutex // held while a line is made and written
	buf bytes.Buffer
	out io.Writer
}

func newConsole(out io.Writer, level slog.Leveler, colour bool) console {
	line := &consoleLine{out: out}
	return console{slog.NewTextHandler(&line.buf, &slog.HandlerOptions{Level: level, ReplaceAttr: attrsOnly}), line, colour}
}

// attrsOnly leaves out what console writes itself.
func attrsOnly(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return a
}

func (c console) Enabled(ctx context.Context, level slog.Level) bool {
	return c.attrs.Enabled(ctx, level)
}

func (c console) WithAttrs(attrs []slog.Attr) slog.Handler {
	c.attrs = c.attrs.WithAttrs(attrs)
	return c
}

func (c console) WithGroup(name string) slog.Handler {
	c.attrs = c.attrs.WithGroup(name)
	return c
}

func (c console) Handle(ctx context.Context, r slog.Record) error {
	l := c.line
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
	l.buf.WriteString(r.Time.Format(time.TimeOnly) + " " + c.level(r.Level) + " " + r.Message + "  ")
	if err := c.attrs.Handle(ctx, r); err != nil {
		return err
	}
	_, err := l.out.Write(append(bytes.TrimRight(l.buf.Bytes(), " \n"), '\n'))
	return err
}

// The colours of levels, and what ends one.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	grey   = "\x1b[90m"
	plain  = "\x1b[0m"
)

// level is a level's name, as wide as the widest.
func (c console) level(level slog.Level) string {
	name := level.String()
	pad := strings.Repeat(" ", max(0, len("ERROR")-len(name)))
	if !c.colour {
		return name + pad
	}
	colour := grey
	switch {
	case level >= slog.LevelError:
		colour = red
	case level >= slog.LevelWarn:
		colour = yellow
	case level >= slog.LevelInfo:
		colour = green
	}
	return colour + name + plain + pad
}

// isTerminal tells whether somebody watches what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// wantsColour follows the custom of no-color.org.
func wantsColour(environ []string) bool {
	return !slices.ContainsFunc(environ, func(v string) bool {
		name, value, _ := strings.Cut(v, "=")
		return name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb"
	})
}
