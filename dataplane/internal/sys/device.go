package sys

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// HostDevices returns the indexes, sorted, of the network devices behind which
// there is this host only: veth pairs, the other ends of which are containers or
// other namespaces, and bridges that have none but veth ports. It asks rtnetlink
// for all devices, which may take a while.
func HostDevices() ([]int32, error) {
	table, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	kinds := make(map[int32]string)
	ports := make(map[int32][]int32) // of a bridge
	for i := range messages {
		if messages[i].Header.Type != unix.RTM_NEWLINK || len(messages[i].Data) < unix.SizeofIfInfomsg {
			continue
		}
		index := int32(binary.NativeEndian.Uint32(messages[i].Data[4:])) // struct ifinfomsg
		attrs := messages[i].Data[unix.SizeofIfInfomsg:]
		if bridge := attribute(attrs, unix.IFLA_MASTER); len(bridge) >= 4 {
			b := int32(binary.NativeEndian.Uint32(bridge))
			ports[b] = append(ports[b], index)
		}
		kind := attribute(attribute(attrs, unix.IFLA_LINKINFO), unix.IFLA_INFO_KIND)
		kinds[index] = strings.TrimRight(string(kind), "\x00")
	}
	veth := func(index int32) bool { return kinds[index] == "veth" }
	var found []int32
	for index, kind := range kinds {
		if veth(index) || kind == "bridge" && len(ports[index]) > 0 &&
			!slices.ContainsFunc(ports[index], func(port int32) bool { return !veth(port) }) {
			found = append(found, index)
		}
	}
	slices.Sort(found)
	return found, nil
}
