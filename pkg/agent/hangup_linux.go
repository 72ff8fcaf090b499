package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hangUp ends TCP connections that a process has to some addresses, if nothing
// came on them for a while, and says how many. Envoy does not: it forgets an
// endpoint that was taken away and leaves what is connected to it alone. So the
// process, a child of this one, is asked for its sockets by the kernel, and to
// Envoy it looks as if the other side had gone.
func hangUp(pid int, to map[netip.AddrPort]bool, silent time.Duration) (ended int, err error) {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, fmt.Errorf("process %d cannot be opened: %w", pid, err)
	}
	defer unix.Close(process)
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range list {
		n, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if what, err := os.Readlink(filepath.Join(dir, entry.Name())); err != nil || !strings.HasPrefix(what, "socket:") {
			continue // closed meanwhile, or something else
		}
		fd, err := unix.PidfdGetfd(process, n, 0)
		switch {
		case errors.Is(err, unix.EBADF):
			continue
		case err != nil:
			return ended, fmt.Errorf("the kernel does not let this process end connections of its Envoy: %w", err)
		}
		if to[peerOf(fd)] && quietFor(fd) >= silent && unix.Shutdown(fd, unix.SHUT_RDWR) == nil {
			ended++
		}
		_ = unix.Close(fd) // a copy: nothing is to be written
	}
	return ended, nil
}

// peerOf is the other end of a connection, zero if it is none of TCP.
func peerOf(fd int) netip.AddrPort {
	a, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// quietFor is for how long nothing came on a connection.
func quietFor(fd int) time.Duration {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return -1
	}
	return time.Duration(info.Last_data_recv) * time.Millisecond
}
