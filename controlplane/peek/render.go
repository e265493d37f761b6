package peek

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"dill/controlplane/publish"
	"dill/dataplane/route"
)

// maxLines bounds each section below the table. A hostile service can claim
// thousands of ports in vain; the first hundreds tell the story.
const maxLines = 500

// report is what one rendering is made from.
type report struct {
	status *publish.Status
	bound  map[netip.AddrPort]error // nil error = accepting
	keeper Keeper                   // nil = nothing is kept
	now    time.Time
	mono   int64 // now on the clock of route.Now
}

// render returns the whole answer.
func (r report) render() []byte {
	var out []byte
	for _, l := range r.status.Table.Listeners {
		if r.unbound(l) != "" {
			continue
		}
		out = append(l.Addr.AppendTo(out), "\n├ "...)
		out = append(append(out, l.Strategy.String()...), '\n')
		for _, b := range l.Backends {
			out = append(backend(append(out, "├──➤ "...), b), '\n')
		}
	}
	if len(out) == 0 {
		out = fmt.Appendf(out, "nothing is served: %s\n", r.hint())
	}
	out = section(out, "not bound", r.notBound())
	out = section(out, "refused", r.refused())
	out = section(out, "not passing", r.idle())
	out = section(out, "stale", r.stale())
	out = section(out, "not saved", r.notSaved())
	out = section(out, "waiting", r.waiting())
	out = section(out, "lingering", r.lingering())
	out = section(out, "failing", r.failing())
	return section(out, "ejected", r.ejected())
}

// backend appends through which proxy b's connections go, if through one, and
// where, as the original does.
func backend(out []byte, b *route.Backend) []byte {
	if b.Socks != nil {
		out = append(b.Socks.Addr.AppendTo(append(out, "socks5://"...)), " ─➤ "...)
	}
	if b.Host == "" {
		return b.Addr.AppendTo(out)
	}
	return append(out, escape(b.Target())...)
}

// section appends a headline and one line each, nothing if there are none.
func section(out []byte, headline string, lines []string) []byte {
	if len(lines) == 0 {
		return out
	}
	out = fmt.Appendf(out, "\n%s\n", headline)
	for _, line := range lines[:min(len(lines), maxLines)] {
		out = fmt.Appendf(out, "├ %s\n", line)
	}
	if n := len(lines) - maxLines; n > 0 {
		out = fmt.Appendf(out, "├ and %d more\n", n)
	}
	return out
}

// unbound is why l does not accept connections, "" when it does.
func (r report) unbound(l *route.Listener) string {
	err, known := r.bound[l.Addr]
	switch {
	case !known:
		return "not opened yet"
	case err != nil:
		return escape(err.Error())
	}
	return ""
}

func (r report) notBound() (lines []string) {
	for _, l := range r.status.Table.Listeners {
		if why := r.unbound(l); why != "" {
			lines = append(lines, fmt.Sprintf("%s for %s: %s", l.Addr, escape(l.Owner), why))
		}
	}
	return lines
}

func (r report) refused() (lines []string) {
	for _, f := range r.status.Table.Refused {
		who := escape(f.Service)
		if f.Instance != "" {
			who += " " + escape(f.Instance)
		}
		if f.Claim != "" {
			who += " " + escape(f.Claim)
		}
		lines = append(lines, who+": "+escape(f.Reason))
	}
	return lines
}

func (r report) idle() (lines []string) {
	for _, l := range r.status.Idle {
		lines = append(lines, fmt.Sprintf("%s for %s: %s", l.Addr, escape(l.Owner), escape(l.Reason)))
	}
	return lines
}

func (r report) stale() (lines []string) {
	for _, s := range r.status.Sources {
		if s.Err != nil {
			lines = append(lines, r.age(s.Name, s.Since, s.Err))
		}
		if s.Warning != nil {
			lines = append(lines, s.Name+": "+escape(s.Warning.Error()))
		}
		for _, one := range s.Stale {
			lines = append(lines, r.age(s.Name+"/"+escape(one.Service), one.Since, one.Err))
		}
		if s.Expired > 0 {
			lines = append(lines, fmt.Sprintf("%s: %s not served any more, older than %s.max_stale allows", s.Name, count(s.Expired, "service"), s.Name))
		}
	}
	return lines
}

func (r report) notSaved() (lines []string) {
	if r.keeper == nil {
		return nil
	}
	if since, err := r.keeper.Trouble(); err != nil {
		lines = append(lines, fmt.Sprintf("%s for %s: %s", escape(r.keeper.Path()), r.round(r.now.Sub(since)), escape(err.Error())))
	}
	return lines
}

// age words how old what is known of something is, and why.
func (r report) age(of string, since time.Time, why error) string {
	age := "never current"
	if !since.IsZero() {
		age = "last current " + r.round(r.now.Sub(since)) + " ago"
	}
	return fmt.Sprintf("%s: %s: %s", of, age, escape(why.Error()))
}

func (r report) waiting() (lines []string) {
	for _, s := range r.status.Sources {
		if n := len(s.Settling); n > 0 {
			lines = append(lines, fmt.Sprintf("%s: %s gone, kept until that has settled", s.Name, count(n, "instance")))
		}
		for _, gone := range s.Settling {
			lines = append(lines, fmt.Sprintf("%s/%s %s: for %s more, unless it comes back", s.Name, escape(gone.Service),
				escape(gone.Instance), r.round(gone.Until.Sub(r.now))))
		}
		if n := len(s.Held); n > 0 {
			next := "is under way"
			if !s.AskedAt.IsZero() {
				next = "is tried again in " + r.round(s.AskedAt.Sub(r.now))
			}
			lines = append(lines, fmt.Sprintf("%s: %s gone at once, kept until a consistent read confirms it, which %s", s.Name, count(n, "listener"), next))
		}
		for _, addr := range s.Held {
			line := fmt.Sprintf("%s: %s", s.Name, addr)
			if l := r.status.Table.Lookup(addr); l != nil {
				line += " of " + escape(l.Owner)
			}
			lines = append(lines, line)
		}
	}
	for _, l := range r.status.Table.Listeners {
		if w, waits := r.status.Waiting[l.Addr]; waits {
			hosts := escape(strings.Join(w.Hosts, ", "))
			lines = append(lines, fmt.Sprintf("%s of %s: for %s to be looked up, %s at most", l.Addr, escape(l.Owner), hosts, r.round(w.Until.Sub(r.now))))
		}
	}
	return lines
}

func (r report) lingering() (lines []string) {
	for _, l := range r.status.Table.Listeners {
		until, ok := r.status.Lingering[l.Addr]
		if !ok {
			continue
		}
		left := "until that is confirmed"
		if d := until.Sub(r.now); d > 0 {
			left = "for " + r.round(d) + " more"
		}
		lines = append(lines, fmt.Sprintf("%s: no instance of %s is passing, those listed are tried %s", l.Addr, escape(l.Owner), left))
	}
	return lines
}

// failing is the backends that cannot be connected to and are tried by every
// client nevertheless.
func (r report) failing() (lines []string) {
	for _, l := range r.status.Table.Listeners {
		for _, b := range l.Backends {
			if b.State.Failure().Count > 0 && b.State.Ejection().Until == 0 {
				lines = append(lines, r.failure(l, b))
			}
		}
	}
	return lines
}

func (r report) ejected() (lines []string) {
	for _, l := range r.status.Table.Listeners {
		for _, b := range l.Backends {
			e := b.State.Ejection()
			left := time.Duration(e.Until - r.mono)
			switch {
			case e.Until == 0:
			case e.Trial:
				lines = append(lines, r.failure(l, b)+"; being tried again")
			case left > 0:
				lines = append(lines, r.failure(l, b)+"; tried again in "+r.round(left))
			default:
				lines = append(lines, r.failure(l, b)+"; tried again by the next client")
			}
		}
	}
	return lines
}

// failure words the failed connects to b behind l.
func (r report) failure(l *route.Listener, b *route.Backend) string {
	f := b.State.Failure()
	return fmt.Sprintf("%s ──➤ %s %s: %s, %s in a row, the first %s ago", l.Addr, escape(b.Target()), escape(b.Instance),
		f.Reason(), count(f.Count, "failed connect"), r.round(time.Duration(r.mono-f.Since)))
}

// hint is the likely cause of an empty table.
func (r report) hint() string {
	var unsynced []string
	services := 0
	for _, s := range r.status.Sources {
		if !s.Synced {
			unsynced = append(unsynced, s.Name)
		}
		services += s.Services
	}
	switch {
	case len(r.status.Table.Listeners) > 0:
		return "no port is bound, see below"
	case len(r.status.Sources) == 0:
		return "no route source is configured"
	case len(r.status.Idle) > 0 && len(r.status.Table.Refused) > 0:
		return "what is not refused has no passing instance, see below"
	case len(r.status.Idle) > 0:
		return "no service that asks for a port has a passing instance, see below"
	case len(r.status.Table.Refused) > 0:
		return "every claim was refused, see below"
	case len(r.stale()) > 0 && services == 0:
		return "a source cannot be read, see below"
	case len(unsynced) > 0 && services == 0:
		return strings.Join(unsynced, " and ") + " not read yet"
	case services == 0:
		return "no service asks for a port, which takes the tags dill and dill.listener=<label>:<port>"
	}
	return "no service that asks for a port has a passing instance"
}

// round words a duration for people, whole seconds.
func (report) round(d time.Duration) string { return max(d, 0).Round(time.Second).String() }

// count is "1 listener" or "3 listeners".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
