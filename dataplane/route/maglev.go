package route

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// maglevShare is the least number of table entries per backend: one entry
// more or less is then at most 1 % of a backend's share.
const maglevShare = 100

// sourceHash returns the backend that owns client's entry of the Maglev
// table, or the next usable one after it. The mapping depends on nothing but
// the targets and weights, so that it is the same after a restart and on
// another host.
func (l *Listener) sourceHash(now int64, client netip.Addr, tried *Tried) int {
	size := uint64(len(l.slots))
	at := hashAddr(client.Unmap(), 0) % size
	for range size {
		if i := int(l.slots[at]); l.usable(i, now, tried) {
			return i
		}
		if at++; at == size {
			at = 0
		}
	}
	return -1
}

// maglev fills a lookup table (Eisenbud et al., NSDI 2016): every backend has
// its own permutation of the entries, and the backends claim entries in turns,
// each the next free one of its permutation. A backend with a fraction of the
// highest weight takes that fraction of the turns, and at least the first.
func maglev(backends []*Backend) []uint16 {
	size := maglevSize(len(backends))
	heaviest := 0
	for _, b := range backends {
		heaviest = max(heaviest, b.Weight)
	}
	type claimant struct {
		at, skip uint64 // next entry of the permutation, and the step to take
		credit   int    // a turn costs heaviest
	}
	claimants := make([]claimant, len(backends))
	for i, b := range backends {
		claimants[i] = claimant{
			at:     b.hash(1) % size,
			skip:   b.hash(1<<16+1)%(size-1) + 1,
			credit: heaviest - b.Weight,
		}
	}

	const free = 1<<16 - 1
	slots := make([]uint16, size)
	for s := range slots {
		slots[s] = free
	}
	for left := size; ; {
		for i := range claimants {
			c := &claimants[i]
			if c.credit += backends[i].Weight; c.credit < heaviest {
				continue
			}
			c.credit -= heaviest
			for slots[c.at] != free {
				if c.at += c.skip; c.at >= size {
					c.at -= size
				}
			}
			slots[c.at] = uint16(i)
			if left--; left == 0 {
				return slots
			}
		}
	}
}

// maglevSize is the smallest prime ≥ maglevShare × n, for n rounded up to 16,
// 64, 256 and so on. Without the steps every new backend would change the
// size, and a new size moves nearly every client: 94 % of them from 16 backends
// to 17, where the size steps, and 7 % from 17 to 18, where it does not.
func maglevSize(n int) uint64 {
	room := 16
	for room < n {
		room *= 4
	}
	size := uint64(maglevShare * room)
	for !prime(size) {
		size++
	}
	return size
}

func prime(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

// hashAddr mixes an address and a seed into 64 bits. It is fixed for ever: see
// sourceHash. Nothing is lost when somebody chooses addresses that collide, he
// only shares a backend with himself.
func hashAddr(a netip.Addr, seed uint64) uint64 {
	b := a.As16()
	h := mix(binary.BigEndian.Uint64(b[:8])^0x9e3779b97f4a7c15, seed^0xd1b54a32d192ed03)
	return mix(h^binary.BigEndian.Uint64(b[8:]), 0x8ebc6af09c88c6e3)
}

// mix folds the 128-bit product of two words, which spreads every input bit.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
