package dptest

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// farMTU is as large as a packet can be: they go through this process one by one.
const farMTU = 65_520

// Far is a [Namespace] at the end of a long wire: two TUN devices, one here and
// one there, and between them a shuttle that holds every packet back for a while.
type Far struct {
	*Namespace
	delay atomic.Int64 // of one way
	ends  [2]*os.File
}

// NewFar makes a far network. The error wraps [os.ErrPermission] or
// [os.ErrNotExist] where a machine has no TUN devices to give.
func NewFar(oneWay time.Duration) (*Far, error) {
	f := new(Far)
	f.delay.Store(int64(oneWay))
	var err error
	if f.ends[0], err = openTun("here0", HereAddr); err != nil {
		return nil, err
	}
	if f.Namespace, err = newNamespace(); err != nil {
		return nil, errors.Join(err, f.ends[0].Close())
	}
	f.There(func() { f.ends[1], err = openTun("far0", FarAddr) })
	if err != nil {
		f.Namespace.Close()
		return nil, errors.Join(err, f.ends[0].Close())
	}
	f.shuttle(f.ends[0], f.ends[1])
	f.shuttle(f.ends[1], f.ends[0])
	return f, nil
}

// SetDelay changes how long a packet takes one way.
func (f *Far) SetDelay(oneWay time.Duration) { f.delay.Store(int64(oneWay)) }

// Close takes the wire away.
func (f *Far) Close() error {
	f.Namespace.Close()
	return errors.Join(f.ends[0].Close(), f.ends[1].Close())
}

// packet is one on its way.
type packet struct {
	data []byte
	due  time.Time
}

// shuttle carries packets from one device to the other until they are closed.
func (f *Far) shuttle(from, to *os.File) {
	wire := make(chan packet, 4096)
	go func() {
		defer close(wire)
		for {
			data := make([]byte, farMTU)
			n, err := from.Read(data)
			if err != nil {
				return
			}
			wire <- packet{data[:n], time.Now().Add(time.Duration(f.delay.Load()))}
		}
	}()
	go func() {
		for p := range wire {
			time.Sleep(time.Until(p.due))
			if _, err := to.Write(p.data); err != nil && errors.Is(err, os.ErrClosed) {
				return
			}
		}
	}()
}

// openTun makes a TUN device with an address in a network of 256, in the
// namespace of the calling thread.
func openTun(name string, addr netip.Addr) (*os.File, error) {
	fd, err := syscall.Open("/dev/net/tun", syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	const tunSetIff, tun, noInfo = 0x400454ca, 1, 0x1000 // linux/if_tun.h
	if err := ifreq(fd, tunSetIff, name, func(p *[24]byte) { *(*uint16)(unsafe.Pointer(p)) = tun | noInfo }); err != nil {
		syscall.Close(fd)
		return nil, err
	}
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	defer syscall.Close(s)
	inet := func(ip [4]byte) func(*[24]byte) {
		return func(p *[24]byte) {
			*(*syscall.RawSockaddrInet4)(unsafe.Pointer(p)) = syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: ip}
		}
	}
	err = errors.Join(
		ifreq(s, syscall.SIOCSIFADDR, name, inet(addr.As4())),
		ifreq(s, syscall.SIOCSIFNETMASK, name, inet([4]byte{255, 255, 255, 0})),
		ifreq(s, syscall.SIOCSIFMTU, name, func(p *[24]byte) { *(*int32)(unsafe.Pointer(p)) = farMTU }),
		ifreq(s, syscall.SIOCSIFFLAGS, name, func(p *[24]byte) { *(*uint16)(unsafe.Pointer(p)) = syscall.IFF_UP | syscall.IFF_RUNNING }),
	)
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// ifreq makes one request of struct ifreq: 16 bytes of name, 24 of what fill
// puts there.
func ifreq(fd int, request uintptr, name string, fill func(*[24]byte)) error {
	var req struct {
		name [16]byte
		rest [24]byte
	}
	copy(req.name[:15], name)
	fill(&req.rest)
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&req))); no != 0 {
		return fmt.Errorf("%s: ioctl %#x: %w", name, request, no)
	}
	return nil
}
