package main

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// damped runs f in a bubble with a logger that is damped, and what it wrote.
func damped(t *testing.T, f func(log *slog.Logger, out *transcript, d damper)) {
	synctest.Test(t, func(t *testing.T) {
		out := new(transcript)
		d := newDamper(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		f(slog.New(d), out, d)
		time.Sleep(time.Hour) // no timer outlives the test
		synctest.Wait()
	})
}

func (t *transcript) lines(of string) int { return strings.Count(t.String(), of) }

// Six services flapped at once wrote twelve lines a second, for as long as it
// went on.
func TestFlappingIsDamped(t *testing.T) {
	damped(t, func(log *slog.Logger, out *transcript, _ damper) {
		const listeners, flips = 6, 600
		for i := range flips {
			for port := range listeners {
				at := fmt.Sprintf("127.0.0.1:500%d", port)
				if i%2 == 0 {
					log.Info("backend removed", keyListener, at, "turn", i)
				} else {
					log.Info("backend added", keyListener, at, "turn", i)
				}
			}
			log.Info("table published", keyGeneration, i)
			time.Sleep(time.Second)
		}
		time.Sleep(damperEvery)
		synctest.Wait()
		most := damperBurst + flips/int(damperEvery/time.Second) + 1
		for _, about := range []string{"listener=127.0.0.1:5003", "generation="} {
			if n := out.lines(about); n > most || n < damperBurst {
				t.Errorf("%d lines with %s in ten minutes, want at most %d", n, about, most)
			}
			last := fmt.Sprintf("turn=%d", flips-1)
			if about == "generation=" {
				last = fmt.Sprintf("%s%d", about, flips-1)
			}
			if out.lines(last) == 0 {
				t.Errorf("the last word of %s was never told", about)
			}
		}
		told := out.lines("listener=127.0.0.1:5003")
		heldBack := 0
		for _, m := range regexp.MustCompile(`listener=127.0.0.1:5003 .*held_back=(\d+)`).FindAllStringSubmatch(out.String(), -1) {
			n := 0
			fmt.Sscan(m[1], &n)
			heldBack += n
		}
		if told+heldBack != flips {
			t.Errorf("%d lines told and %d said to be held back, of %d", told, heldBack, flips)
		}
	})
}

// A service that asked for thirty other ports each time wrote 38 lines a second:
// what opens or closes at once beyond twenty is summed up, without a listener or
// an owner.
func TestSumsAreDamped(t *testing.T) {
	damped(t, func(log *slog.Logger, out *transcript, _ damper) {
		phrases := []string{"ports opened", "ports closed", "listeners linger", "listeners no longer linger"}
		for i := range 600 {
			for _, phrase := range phrases {
				log.Info(phrase, keyListeners, i)
			}
			log.Info("table published", keyGeneration, i, keyListeners, 30)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(damperEvery)
		synctest.Wait()
		for _, phrase := range append(phrases, "table published") {
			of := fmt.Sprintf("msg=%q", phrase)
			if n := out.lines(of); n > damperBurst+8 || n < damperBurst {
				t.Errorf("%q: %d lines in a minute", phrase, n)
			}
			if out.lines(of+" generation=599")+out.lines(of+" listeners=599") != 1 {
				t.Errorf("%q: the last word was never told", phrase)
			}
		}
	})
}

// One that flaps takes nothing from its neighbours, nor from what is no
// flapping at all.
func TestDampingIsPerSubject(t *testing.T) {
	damped(t, func(log *slog.Logger, out *transcript, _ damper) {
		for range 100 {
			log.Info("backend added", keyListener, "127.0.0.1:5000", keyOwner, "consul/web")
			log.Warn("claim refused", keyOwner, "consul/flaky")
			log.Info("setting changed", keySetting, "consul.wait")
			log.Error("state not written", keyListener, "127.0.0.1:5000", keyErr, errors.New("disk full"))
			log.Debug("snapshot taken", keyOwner, "consul/flaky")
		}
		log.Info("port opened", keyListener, "127.0.0.1:5001", keyOwner, "consul/web")
		log.Warn("claim refused", keyOwner, "consul/web")
		for line, want := range map[string]int{
			"backend added": damperBurst, "owner=consul/flaky": damperBurst + 100,
			"setting changed": 100, "state not written": 100,
			"port opened": 1, `claim refused" owner=consul/web`: 1,
		} {
			if n := out.lines(line); n != want {
				t.Errorf("%s: %d lines, want %d", line, n, want)
			}
		}
	})
}

// A damped line is told late, but with the time at which it was said, and what
// is calm again is told at once.
func TestDampedLineIsToldLater(t *testing.T) {
	damped(t, func(log *slog.Logger, out *transcript, _ damper) {
		log = log.With(keyVersion, "v1")
		for i := range damperBurst + 3 {
			log.Info("port opened", keyListener, "127.0.0.1:5000", "turn", i)
		}
		said := time.Now().UTC().Format(time.RFC3339)
		said = strings.TrimSuffix(said, "Z")
		time.Sleep(damperEvery)
		synctest.Wait()
		want := fmt.Sprintf(`version=v1 listener=127.0.0.1:5000 turn=%d held_back=2`, damperBurst+2)
		text := strings.TrimSuffix(out.String(), "\n")
		last := text[strings.LastIndexByte(text, '\n')+1:]
		if !strings.Contains(last, want) || !strings.Contains(last, "time="+said) {
			t.Errorf("last line %q, want %q of %s", last, want, said)
		}
		time.Sleep(damperBurst * damperEvery)
		before := out.lines("\n")
		log.Info("port closed", keyListener, "127.0.0.1:5000")
		if out.lines("\n") != before+1 {
			t.Error("calm, and not told at once")
		}
	})
}

// What is held when dill ends is told then, and only then.
func TestEndTellsWhatIsHeld(t *testing.T) {
	damped(t, func(log *slog.Logger, out *transcript, d damper) {
		for i := range damperBurst + 1 {
			log.Info("port opened", keyListener, "127.0.0.1:5000", "turn", i)
		}
		d.flush()
		if out.lines(fmt.Sprintf("turn=%d\n", damperBurst)) != 1 {
			t.Error("not told at the end")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := out.lines("\n"); n != damperBurst+1 {
			t.Errorf("%d lines, want %d", n, damperBurst+1)
		}
	})
}

// Any number of subjects takes bounded memory, and each that is new has its say.
func TestDamperForgets(t *testing.T) {
	damped(t, func(log *slog.Logger, _ *transcript, d damper) {
		for i := range 3 * damperSubjects {
			log.Info("claim refused", keyOwner, fmt.Sprintf("consul/%d", i))
			if n := len(d.of); n > damperSubjects+1 {
				t.Fatalf("%d subjects are remembered", n)
			}
		}
		time.Sleep(time.Hour)
		log.Info("claim refused", keyOwner, "consul/late")
		if n := len(d.of); n != 1 {
			t.Errorf("%d subjects are remembered although all is calm", n)
		}
	})
}
