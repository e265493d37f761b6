package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is one field of a Config as the table sees it.
type value interface {
	// set takes what a file (any type its format has) or the environment (a
	// string) holds. It fails with errWant or an *entryError.
	set(raw any) error
	// literal returns the field's value as TOML, to compare. It may hold secrets.
	literal() string
	// masked is literal without the secrets inside a URL, to print. Whether
	// the whole value is a secret is the table's to know.
	masked() string
	// kind names the type in a word or two, for the reference.
	kind() string
	// want says exactly what set accepts, for whoever got it wrong.
	want() string
	// free reports whether a value that is not accepted may be anything, a
	// secret in the wrong place too, and so is not to be printed. A wrong number
	// or address explains itself only when it is.
	free() bool
}

// errWant is the answer of set to anything that is not what want says.
var errWant = errors.New("not accepted")

// entryError is about one entry of a map.
type entryError struct {
	entry string
	value any
	want  string
}

func (e *entryError) Error() string { return e.entry + ": " + e.want }

// scalar is a value of type T.
type scalar[T any] struct {
	field *T
	parse func(raw any) (T, bool)
	print func(T) string
	name  string
	wants string
	mask  func(T) T // nil = nothing in it is secret
	word  bool      // see value.free
}

func (s scalar[T]) set(raw any) error {
	v, ok := s.parse(raw)
	if !ok {
		return errWant
	}
	*s.field = v
	return nil
}

func (s scalar[T]) literal() string { return s.print(*s.field) }
func (s scalar[T]) kind() string    { return s.name }
func (s scalar[T]) want() string    { return s.wants }
func (s scalar[T]) free() bool      { return s.word }

func (s scalar[T]) masked() string {
	if s.mask == nil {
		return s.literal()
	}
	return s.print(s.mask(*s.field))
}

func integer(field *int, least, most int) value {
	wants := "a whole number from " + strconv.Itoa(least) + " to " + strconv.Itoa(most)
	name := fmt.Sprintf("integer, %d to %d", least, most)
	if most >= math.MaxInt32 {
		wants = "a whole number, at least " + strconv.Itoa(least)
		name = fmt.Sprintf("integer from %d", least)
	}
	return scalar[int]{field: field, parse: func(raw any) (int, bool) {
		n, ok := wholeNumber(raw)
		return n, ok && n >= least && n <= most
	}, print: strconv.Itoa, name: name, wants: wants}
}

// auto is how a setting says that dill shall choose.
const auto = "auto"

// autoInteger is an integer from 0 on, or "auto", which is stored as
// Auto.
func autoInteger(field *int, most int) value {
	return scalar[int]{field: field, parse: func(raw any) (int, bool) {
		if s, ok := raw.(string); ok && strings.EqualFold(strings.TrimSpace(s), auto) {
			return Auto, true
		}
		n, ok := wholeNumber(raw)
		return n, ok && n >= 0 && n <= most
	}, print: func(n int) string {
		if n == Auto {
			return strconv.Quote(auto)
		}
		return strconv.Itoa(n)
	}, name: "integer from 0, or `" + auto + "`", wants: "a whole number, at least 0, or " + auto}
}

// wholeNumber reads an integer from any type that a file format gives it.
func wholeNumber(raw any) (int, bool) {
	switch v := raw.(type) {
	case int:
		return v, true
	case int64:
		return int(v), int64(int(v)) == v
	case uint64: // YAML, beyond int64
		return 0, false
	case float64: // JSON has no other numbers
		return int(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	case string:
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return n, err == nil
	}
	return 0, false
}

func boolean(field *bool) value {
	return scalar[bool]{field: field, parse: func(raw any) (bool, bool) {
		switch v := raw.(type) {
		case bool:
			return v, true
		case string:
			b, err := strconv.ParseBool(strings.ToLower(strings.TrimSpace(v)))
			return b, err == nil
		}
		return false, false
	}, print: strconv.FormatBool, name: "boolean", wants: "true or false", word: true}
}

func share(field *float64) value {
	return scalar[float64]{field: field, parse: func(raw any) (float64, bool) {
		f, ok := raw.(float64)
		if s, isText := raw.(string); isText {
			var err error
			f, err = strconv.ParseFloat(strings.TrimSpace(s), 64)
			ok = err == nil
		} else if n, whole := wholeNumber(raw); whole {
			f, ok = float64(n), true
		}
		return f, ok && f >= 0 && f <= 1 // NaN is neither
	}, print: func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }, name: "number, 0 to 1", wants: "a number from 0 to 1"}
}

func duration(field *time.Duration, least time.Duration) value {
	const century = 100 * 365 * 24 * time.Hour
	return durationUpTo(field, least, century)
}

func durationUpTo(field *time.Duration, least, most time.Duration) value {
	limits := ""
	if least > 0 {
		limits += ", at least " + shortDuration(least)
	}
	if most <= 24*time.Hour {
		limits += ", at most " + shortDuration(most)
	}
	name, wants := "duration"+limits, "a duration such as 30s, 5m or 1h30m"+limits
	return scalar[time.Duration]{field: field, parse: func(raw any) (time.Duration, bool) {
		d, ok := parseDuration(raw)
		return d, ok && d >= least && d <= most
	}, print: func(d time.Duration) string { return strconv.Quote(shortDuration(d)) }, name: name, wants: wants}
}

// parseDuration takes no bare number but 0: nobody can tell its unit.
func parseDuration(raw any) (time.Duration, bool) {
	if s, ok := raw.(string); ok {
		d, err := time.ParseDuration(strings.TrimSpace(s))
		return d, err == nil
	}
	n, ok := wholeNumber(raw)
	return 0, ok && n == 0
}

// shortDuration writes 5m for what Duration.String calls 5m0s.
func shortDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// units are the suffixes of a size in bytes, the longest first.
var units = []struct {
	suffix string
	bytes  int
}{{"gib", 1 << 30}, {"mib", 1 << 20}, {"kib", 1 << 10}, {"b", 1}}

func size(field *int, least, most int) value {
	return scalar[int]{field: field, parse: func(raw any) (int, bool) {
		unit := 1
		if s, ok := raw.(string); ok {
			s = strings.ToLower(strings.TrimSpace(s))
			for _, u := range units {
				if digits, ok := strings.CutSuffix(s, u.suffix); ok {
					s, unit = digits, u.bytes
					break
				}
			}
			raw = s
		}
		n, ok := wholeNumber(raw)
		if !ok || n < 0 || n > most/unit {
			return 0, false
		}
		return n * unit, n*unit >= least
	}, print: printSize, name: "size", wants: "a size such as 64KiB or 1MiB, from " + sizeText(least) + " to " + sizeText(most)}
}

func printSize(n int) string {
	if s := sizeText(n); s != strconv.Itoa(n) {
		return strconv.Quote(s)
	}
	return strconv.Itoa(n)
}

func sizeText(n int) string {
	for _, u := range []struct {
		suffix string
		bytes  int
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.Itoa(n/u.bytes) + u.suffix
		}
	}
	return strconv.Itoa(n)
}

// text is any string that may stand in a header, a query or a path.
func text[T ~string](field *T) value {
	return scalar[T]{field: field, parse: func(raw any) (T, bool) {
		s, ok := raw.(string)
		s = strings.TrimSpace(s)
		return T(s), ok && len(s) <= 4096 && printable(s)
	}, print: func(s T) string { return strconv.Quote(string(s)) }, name: "text", wants: "text without control characters (numbers need quotes)", word: true}
}

// filePath is text that names a file; whether it is there is for others to see.
func filePath(field *string) value {
	v := text(field).(scalar[string])
	v.name = "path"
	return v
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) })
}

func choice(field *string, options ...string) value {
	return scalar[string]{field: field, parse: func(raw any) (string, bool) {
		s, _ := raw.(string)
		s = strings.ToLower(strings.TrimSpace(s))
		return s, slices.Contains(options, s)
	}, print: strconv.Quote, name: "`" + strings.Join(options, "`, `") + "`", wants: oneOf(options), word: true}
}

func oneOf(options []string) string {
	last := len(options) - 1
	return strings.Join(options[:last], ", ") + " or " + options[last]
}

var levels = []struct {
	name  string
	level slog.Level
}{
	{"debug", slog.LevelDebug}, {"info", slog.LevelInfo},
	{"warn", slog.LevelWarn}, {"error", slog.LevelError},
}

func level(field *slog.Level) value {
	return scalar[slog.Level]{field: field, parse: func(raw any) (slog.Level, bool) {
		s, _ := raw.(string)
		for _, l := range levels {
			if strings.EqualFold(strings.TrimSpace(s), l.name) {
				return l.level, true
			}
		}
		return 0, false
	}, print: func(l slog.Level) string { return strconv.Quote(strings.ToLower(l.String())) },
		name: "`debug`, `info`, `warn`, `error`", wants: "debug, info, warn or error", word: true}
}
