package dataplane

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"dill/dataplane/internal/sys"
)

// TestBindPause: a port that comes free is taken within a fraction of a second,
// unless a thousand are waited for.
func TestBindPause(t *testing.T) {
	for _, tt := range []struct {
		failing int
		most    time.Duration
	}{{1, 250 * time.Millisecond}, {500, 250 * time.Millisecond}, {2000, time.Second}} {
		wait := time.Duration(0)
		for range 20 {
			next := bindPause(wait, tt.failing)
			if next < wait || next < bindFirst || next > tt.most {
				t.Errorf("%d failing: %v after %v", tt.failing, next, wait)
			}
			wait = next
		}
		if wait != tt.most {
			t.Errorf("%d failing: %v in the end, want %v", tt.failing, wait, tt.most)
		}
	}
}

// TestHolderNamed: of all that have a port, the one that is there to stay is
// named.
func TestHolderNamed(t *testing.T) {
	at := netip.MustParseAddrPort
	listens := func(addr string) sys.Holder {
		return sys.Holder{Local: at(addr), Remote: at("0.0.0.0:0"), State: sys.Listening}
	}
	conn := sys.Holder{Local: at("127.0.0.1:5000"), Remote: at("127.0.0.1:80"), State: sys.Established}
	left := sys.Holder{Local: at("127.0.0.1:5000"), Remote: at("127.0.0.1:81"), State: sys.TimeWait, Left: 41_700 * time.Millisecond}
	bound := sys.Holder{Local: at("127.0.0.1:5000"), State: 13}
	for _, tt := range []struct {
		name string
		addr string
		list []sys.Holder
		want string // "" = nobody
	}{
		{"listener", "127.0.0.1:5000", []sys.Holder{left, conn, listens("127.0.0.1:5000")}, "by another program, which listens at 127.0.0.1:5000 and 2 more"},
		{"wildcard", "127.0.0.1:5000", []sys.Holder{listens("0.0.0.0:5000")}, "listens at 0.0.0.0:5000"},
		{"both families", "127.0.0.1:5000", []sys.Holder{listens("[::]:5000")}, "listens at [::]:5000"},
		{"wanted at all", "0.0.0.0:5000", []sys.Holder{conn}, "by the connection 127.0.0.1:5000 to 127.0.0.1:80 (ESTABLISHED)"},
		{"what is left", "127.0.0.1:5000", []sys.Holder{left}, "127.0.0.1:5000 to 127.0.0.1:81 (TIME-WAIT, free within 42s)"},
		{"bound", "127.0.0.1:5000", []sys.Holder{bound}, "by a socket of another program at 127.0.0.1:5000 (BOUND)"},
		{"another address", "127.0.0.2:5000", []sys.Holder{conn, listens("127.0.0.1:5000")}, ""},
		{"another port", "127.0.0.1:5001", []sys.Holder{conn}, ""},
		{"another family", "[::1]:5000", []sys.Holder{listens("127.0.0.1:5000")}, ""},
	} {
		h := holders{list: tt.list}
		got, listens, err := h.of(at(tt.addr))
		if listens != strings.Contains(tt.want, "listens at") {
			t.Errorf("%s: listens %v", tt.name, listens)
		}
		if (err != nil) != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	h := holders{err: sys.EPERM}
	if who, listens, err := h.of(at("127.0.0.1:5000")); err == nil || !listens {
		t.Errorf("not known, and yet %q, listens %v", who, listens)
	}
}

// TestHoldersAreAskedRarely: a list of all sockets is not made for each retry.
func TestHoldersAreAskedRarely(t *testing.T) {
	var h holders
	now := time.Now()
	if !h.look(1, 2, false, now) {
		t.Fatal("not asked the first time")
	}
	h.soon = now.Add(10 * time.Millisecond)
	if h.look(1, 2, true, now.Add(5*time.Millisecond)) || h.look(1, 2, false, now.Add(holdersEvery/2)) {
		t.Error("asked again too soon")
	}
	if !h.look(1, 2, true, now.Add(holdersEvery/2)) {
		t.Error("not asked about a port that is new")
	}
	if !h.look(1, 2, false, now.Add(time.Hour)) {
		t.Error("never asked again")
	}
}
