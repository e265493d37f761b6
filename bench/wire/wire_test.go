package wire

import (
	"bytes"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHelloSurvives(t *testing.T) {
	for _, h := range []Hello{
		{Mode: Echo, Size: MinMessage, Stream: 3},
		{Mode: OneShot, Size: MaxMessage},
		{Mode: Upload, Stream: 1 << 40},
		{Mode: Download},
		{Mode: Exchange, Up: 500_000, Down: 1},
	} {
		b := h.AppendTo(nil)
		if len(b) != HelloSize {
			t.Fatalf("%+v takes %d bytes, want %d", h, len(b), HelloSize)
		}
		if got, err := ParseHello(b); err != nil || got != h {
			t.Errorf("%+v came back as %+v, %v", h, got, err)
		}
	}
}

func TestHelloRefused(t *testing.T) {
	good := Hello{Mode: Echo, Size: 64}.AppendTo(nil)
	for name, b := range map[string][]byte{
		"short":       good[:HelloSize-1],
		"no magic":    append([]byte{0}, good[1:]...),
		"mode 0":      Hello{Size: 64}.AppendTo(nil),
		"mode 6":      Hello{Mode: Exchange + 1}.AppendTo(nil),
		"too small":   Hello{Mode: Echo, Size: MinMessage - 1}.AppendTo(nil),
		"too large":   Hello{Mode: OneShot, Size: MaxMessage + 1}.AppendTo(nil),
		"HTTP client": []byte("GET / HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: x\r\n"),
	} {
		if h, err := ParseHello(b); err == nil {
			t.Errorf("%s: accepted as %+v", name, h)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Hello{Mode: Echo, Size: 64}.AppendTo(nil))
	f.Add(Trailer{Bytes: 7}.AppendTo(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseHello(b); err == nil && !bytes.Equal(h.AppendTo(nil), b[:HelloSize]) {
			t.Errorf("%x reads as %+v, which is written otherwise", b, h)
		}
		if tr, err := ParseTrailer(b); err == nil && !bytes.Equal(tr.AppendTo(nil), b[:TrailerSize]) {
			t.Errorf("%x reads as %+v, which is written otherwise", b, tr)
		}
	})
}

func TestPatternWraps(t *testing.T) {
	whole := append(bytes.Clone(Pattern(5, period-10, 10)), Pattern(5, period, 10)...)
	if !bytes.Equal(Pattern(5, period-10, 20), whole) {
		t.Error("a piece across the end of the pattern is not the two pieces on both sides of it")
	}
	if bytes.Equal(Pattern(0, 0, 64), Pattern(1, 0, 64)) {
		t.Error("two streams begin with the same bytes")
	}
}

// received passes n bytes of stream 2, as fault changed them, through a Checker in
// pieces of odd sizes, all of them looked at.
func received(n int, fault func([]byte) []byte) Checker {
	sent := make([]byte, 0, n)
	for len(sent) < n {
		sent = append(sent, Pattern(2, uint64(len(sent)), min(n-len(sent), MaxChunk))...)
	}
	got := fault(sent)
	c := Checker{Stream: 2}
	for len(got) > 0 {
		piece := min(len(got), 4093)
		c.Check(got[:piece])
		got = got[piece:]
	}
	return c
}

func TestCheckerSeesFaults(t *testing.T) {
	const n = 3 << 20
	for name, fault := range map[string]func([]byte) []byte{
		"one bit":         func(b []byte) []byte { b = bytes.Clone(b); b[n/2] ^= 1; return b },
		"a byte lost":     func(b []byte) []byte { return slices.Delete(bytes.Clone(b), n/2, n/2+1) },
		"a byte doubled":  func(b []byte) []byte { return slices.Insert(bytes.Clone(b), n/2, b[n/2]) },
		"64 KiB lost":     func(b []byte) []byte { return slices.Delete(bytes.Clone(b), n/2, n/2+64<<10) },
		"1 MiB repeated":  func(b []byte) []byte { return slices.Insert(bytes.Clone(b), 1<<20, b[:1<<20]...) },
		"another stream":  func(b []byte) []byte { return bytes.Clone(Pattern(3, 0, MaxChunk)) },
		"buffers swapped": func(b []byte) []byte { return append(bytes.Clone(b[32<<10:64<<10]), b[:32<<10]...) },
		"zeros":           func(b []byte) []byte { return make([]byte, len(b)) },
	} {
		if c := received(n, fault); c.Bad == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
	if c := received(n, func(b []byte) []byte { return b }); c.Bad != 0 || c.Bytes != n {
		t.Errorf("the right bytes: %d pieces wrong, %d bytes counted of %d", c.Bad, c.Bytes, n)
	}
}

func TestCheckerSamples(t *testing.T) {
	var c Checker
	looked := 0
	for c.Bytes < 100<<20 {
		if c.WantsSample() {
			looked++
			c.Check(Pattern(0, c.Bytes, SampleSize))
		} else {
			c.Skip(SampleSize)
		}
	}
	if c.Bad != 0 || looked < 40 || looked > 60 {
		t.Errorf("looked at %d pieces of 100 MiB, %d of them wrong; want about 50 and 0", looked, c.Bad)
	}
}

func TestAnswers(t *testing.T) {
	for _, size := range []int{MinMessage, 64, 4096, 64 << 10, MaxMessage} {
		request := NewMessage(1, size)
		for seq := uint64(1); seq < 300; seq++ {
			Stamp(request, seq)
			answer := bytes.Clone(request)
			Answer(answer)
			if !IsAnswer(answer, request, seq) {
				t.Fatalf("%d bytes, request %d: the right answer is refused", size, seq)
			}
			if IsAnswer(request, request, seq) {
				t.Fatalf("%d bytes, request %d: an echo passes for an answer", size, seq)
			}
			if IsAnswer(answer[:size-1], request, seq) {
				t.Fatalf("%d bytes, request %d: a short answer passes", size, seq)
			}
			Stamp(request, seq+1)
			if IsAnswer(answer, request, seq+1) {
				t.Fatalf("%d bytes, request %d: the answer to the one before passes", size, seq+1)
			}
		}
	}
}

// TestEveryByteOfAnswersCounts has one byte wrong: at once in small messages,
// within a few rounds of the window in large ones.
func TestEveryByteOfAnswersCounts(t *testing.T) {
	for _, size := range []int{64, 4096, 64 << 10} {
		for _, at := range []int{0, 7, 8, size / 2, size - 9, size - 1} {
			request := NewMessage(1, size)
			caught := false
			for seq := uint64(1); seq < 100 && !caught; seq++ {
				Stamp(request, seq)
				answer := bytes.Clone(request)
				Answer(answer)
				answer[at] ^= 0x40
				caught = !IsAnswer(answer, request, seq)
			}
			if !caught {
				t.Errorf("%d bytes: a wrong byte at %d is never noticed", size, at)
			}
		}
	}
}
