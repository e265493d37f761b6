package dptest

import "encoding/binary"

// Pattern is an endless stream of bytes, given by its seed: byte i depends on
// the seed and on i alone, so that a reader can check any piece without having
// seen the rest. Two seeds share no recognisable stretch.
type Pattern uint64

// The functions below are exempt from the race detector, which would make them
// tens of times slower: the bytes they touch are one peer's own.

// word returns bytes 8k to 8k+7, little-endian (splitmix64, Vigna 2015).
//
//go:norace
func (p Pattern) word(k uint64) uint64 {
	z := uint64(p) + (k+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// at returns byte i.
//
//go:norace
func (p Pattern) at(i int64) byte {
	return byte(p.word(uint64(i)/8) >> (8 * (uint64(i) % 8)))
}

// Fill writes bytes off to off+len(b) of the stream into b.
//
//go:norace
func (p Pattern) Fill(b []byte, off int64) {
	for len(b) > 0 && off%8 != 0 {
		b[0] = p.at(off)
		b, off = b[1:], off+1
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, p.word(uint64(off)/8))
		b, off = b[8:], off+8
	}
	for i := range b {
		b[i] = p.at(off + int64(i))
	}
}

// Mismatch compares b with the stream at off and returns the index in b of the
// first byte that differs, -1 if none does.
//
//go:norace
func (p Pattern) Mismatch(b []byte, off int64) int {
	i := 0
	for i < len(b) && (off+int64(i))%8 != 0 {
		if b[i] != p.at(off+int64(i)) {
			return i
		}
		i++
	}
	for ; len(b)-i >= 8; i += 8 {
		if binary.LittleEndian.Uint64(b[i:]) != p.word(uint64(off+int64(i))/8) {
			break // the loop below finds which byte it is
		}
	}
	for ; i < len(b); i++ {
		if b[i] != p.at(off+int64(i)) {
			return i
		}
	}
	return -1
}
