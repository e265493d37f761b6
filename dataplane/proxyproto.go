package dataplane

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// proxySignature opens a version 2 header (haproxy.org, proxy-protocol.txt).
const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

// appendProxyHeader appends the PROXY protocol header of version 1 or 2 that
// tells a backend who its client is. from and to are of one family.
func appendProxyHeader(p []byte, version uint8, from, to netip.AddrPort) []byte {
	src, dst := from.Addr().Unmap().WithZone(""), to.Addr().Unmap().WithZone("")
	if version == 1 {
		p = append(p, "PROXY TCP6 "...)
		if src.Is4() {
			p[len(p)-2] = '4'
		}
		p = append(src.AppendTo(p), ' ')
		p = append(dst.AppendTo(p), ' ')
		p = append(strconv.AppendUint(p, uint64(from.Port()), 10), ' ')
		p = strconv.AppendUint(p, uint64(to.Port()), 10)
		return append(p, "\r\n"...)
	}
	p = append(p, proxySignature...)
	const command = 0x21 // version 2, PROXY
	if src.Is4() {
		a, b := src.As4(), dst.As4()
		p = append(p, command, 0x11, 0, 4+4+2+2)
		p = append(append(p, a[:]...), b[:]...)
	} else {
		a, b := src.As16(), dst.As16()
		p = append(p, command, 0x21, 0, 16+16+2+2)
		p = append(append(p, a[:]...), b[:]...)
	}
	p = binary.BigEndian.AppendUint16(p, from.Port())
	return binary.BigEndian.AppendUint16(p, to.Port())
}
