// Package wire is what the benchmark's clients and its sink say to each other
// through a proxy. It is made so that a proxy that loses, repeats, mixes up or
// invents bytes is caught, at a cost that does not slow the measurement down:
//
//   - A connection opens with a Hello, which names what follows.
//   - Streams carry a pattern in which every byte follows from its position.
//     The receiver counts all bytes and compares a sample of them (Checker);
//     in the end both sides compare their counts (Trailer).
//   - Messages carry their number at both ends. An answer is the request with
//     its first number inverted, so that neither an echo by the proxy nor an
//     answer to another request passes for one.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Mode is what a connection is used for.
type Mode uint8

const (
	Echo     Mode = 1 + iota // messages of Size bytes, each answered, until the client closes
	OneShot                  // one message and its answer; then the sink closes
	Upload                   // a stream from the client until it shuts down; a Trailer comes back
	Download                 // a stream to the client until it sends a byte; the Trailer ends it
	Exchange                 // Up bytes from the client, Down bytes to it, then silence
)

// Limits of what a Hello may ask of a sink.
const (
	MinMessage = 16
	MaxMessage = 1 << 20
)

// Hello is the first thing a client sends.
type Hello struct {
	Mode   Mode
	Size   uint32 // of a message; Echo and OneShot
	Stream uint64 // tells connections apart: where in the pattern they begin
	Up     uint64 // Exchange
	Down   uint64 // Exchange
}

// HelloSize is the length of an encoded Hello.
const HelloSize = 40

const helloMagic = 0x6c6c69643a766e62

// AppendTo appends h, encoded, to b.
func (h Hello) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, helloMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Mode))
	b = binary.LittleEndian.AppendUint32(b, h.Size)
	b = binary.LittleEndian.AppendUint64(b, h.Stream)
	b = binary.LittleEndian.AppendUint64(b, h.Up)
	return binary.LittleEndian.AppendUint64(b, h.Down)
}

// ParseHello decodes the first HelloSize bytes of b.
func ParseHello(b []byte) (Hello, error) {
	if len(b) < HelloSize || binary.LittleEndian.Uint64(b) != helloMagic {
		return Hello{}, errors.New("not a hello of this benchmark")
	}
	mode := binary.LittleEndian.Uint32(b[8:])
	h := Hello{
		Mode:   Mode(mode),
		Size:   binary.LittleEndian.Uint32(b[12:]),
		Stream: binary.LittleEndian.Uint64(b[16:]),
		Up:     binary.LittleEndian.Uint64(b[24:]),
		Down:   binary.LittleEndian.Uint64(b[32:]),
	}
	if mode < uint32(Echo) || mode > uint32(Exchange) {
		return Hello{}, fmt.Errorf("unknown mode %d", mode)
	}
	if (h.Mode == Echo || h.Mode == OneShot) && (h.Size < MinMessage || h.Size > MaxMessage) {
		return Hello{}, fmt.Errorf("message of %d bytes; want %d to %d", h.Size, MinMessage, MaxMessage)
	}
	return h, nil
}

// Trailer is the sink's account of a stream.
type Trailer struct {
	Bytes uint64 // of the stream, Hello and Trailer not counted
	Bad   uint64 // sampled pieces that were not what they should be; Upload
}

// TrailerSize is the length of an encoded Trailer.
const TrailerSize = 24

const trailerMagic = 0x646e652d6c6c6964

// AppendTo appends t, encoded, to b.
func (t Trailer) AppendTo(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, trailerMagic)
	b = binary.LittleEndian.AppendUint64(b, t.Bytes)
	return binary.LittleEndian.AppendUint64(b, t.Bad)
}

// ParseTrailer decodes the first TrailerSize bytes of b.
func ParseTrailer(b []byte) (Trailer, error) {
	if len(b) < TrailerSize || binary.LittleEndian.Uint64(b) != trailerMagic {
		return Trailer{}, errors.New("the stream does not end as the sink ended it")
	}
	return Trailer{
		Bytes: binary.LittleEndian.Uint64(b[8:]),
		Bad:   binary.LittleEndian.Uint64(b[16:]),
	}, nil
}
