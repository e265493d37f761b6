package wire

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"sync"
)

const (
	// period is the length after which the pattern repeats. It is prime, so
	// that no buffer size of any proxy is a multiple of it.
	period = 1_000_003

	// MaxChunk is the longest piece that Pattern returns.
	MaxChunk = 1 << 20

	// stride is how far two streams are apart in the pattern.
	stride = 7919

	// A Checker compares one piece of SampleSize in every sampleEvery bytes.
	// That costs the receiver a copy of 3 % of the stream.
	sampleEvery = 2 << 20
	SampleSize  = 64 << 10
)

var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, period, period+MaxChunk+8)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for len(b) < period+MaxChunk {
		b = append(b, b[:min(period, period+MaxChunk-len(b))]...)
	}
	return b
})

// Pattern returns the n ≤ MaxChunk bytes of a stream that begin at offset. They
// are shared: do not change them.
func Pattern(stream, offset uint64, n int) []byte {
	i := int((stream*stride + offset) % period)
	return pattern()[i : i+n : i+n]
}

// Checker follows a received stream. The zero value is at the beginning of
// stream 0.
type Checker struct {
	Stream uint64
	Bytes  uint64 // seen so far, compared or not
	Bad    uint64 // pieces that were not what they should be
	next   uint64 // offset of the next sample
}

// WantsSample reports whether the next bytes should be read and given to
// Check, rather than be thrown away unseen.
func (c *Checker) WantsSample() bool { return c.Bytes >= c.next }

// Check compares b, at most MaxChunk bytes, with what belongs at this position.
func (c *Checker) Check(b []byte) {
	if !bytes.Equal(b, Pattern(c.Stream, c.Bytes, len(b))) {
		c.Bad++
	}
	c.Bytes += uint64(len(b))
	c.next = c.Bytes + sampleEvery
}

// Skip counts n bytes that nobody looked at.
func (c *Checker) Skip(n int) { c.Bytes += uint64(n) }

// fullCheck is up to which size every byte of a message is compared. Of a
// larger one it is a window of this size that wanders from message to message.
const fullCheck = 4 << 10

// NewMessage returns the request buffer of a connection, size bytes long.
// Number it with Stamp.
func NewMessage(stream uint64, size int) []byte {
	return bytes.Clone(Pattern(stream, 0, size))
}

// Stamp makes msg request number seq of its connection.
func Stamp(msg []byte, seq uint64) {
	binary.LittleEndian.PutUint64(msg[len(msg)-8:], seq)
	binary.LittleEndian.PutUint64(msg, seq)
}

// Answer turns a request into its answer, in place.
func Answer(msg []byte) {
	binary.LittleEndian.PutUint64(msg, ^binary.LittleEndian.Uint64(msg))
}

// IsAnswer reports whether got is the answer to the request that was stamped
// last, number seq.
func IsAnswer(got, request []byte, seq uint64) bool {
	n := len(request)
	if len(got) != n || binary.LittleEndian.Uint64(got) != ^seq {
		return false
	}
	if n <= fullCheck {
		return bytes.Equal(got[8:], request[8:])
	}
	if binary.LittleEndian.Uint64(got[n-8:]) != seq {
		return false
	}
	windows := (n - 8 + fullCheck - 1) / fullCheck
	at := 8 + int(seq%uint64(windows))*fullCheck
	end := min(at+fullCheck, n)
	return bytes.Equal(got[at:end], request[at:end])
}
