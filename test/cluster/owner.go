package cluster

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// Owner is the one of some processes that has the other end of a connection of
// this machine; 0: none of them.
func Owner(conn net.Conn, pids []int) int {
	inode := inodeOf(conn.RemoteAddr().(*net.TCPAddr), conn.LocalAddr().(*net.TCPAddr))
	if inode == "" {
		return 0
	}
	for _, pid := range pids {
		if hasSocket(pid, "socket:["+inode+"]") {
			return pid
		}
	}
	return 0
}

func hasSocket(pid int, socket string) bool {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return false
	}
	defer dir.Close()
	fds, err := dir.Readdirnames(-1)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if to, err := os.Readlink(dir.Name() + "/" + fd); err == nil && to == socket {
			return true
		}
	}
	return false
}

// inodeOf finds the socket between two addresses, at the first; empty when there
// is none. Sockets to different places may share a port.
func inodeOf(at, to *net.TCPAddr) string {
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return ""
	}
	local, remote := inTable(at), inTable(to)
	for line := range strings.Lines(string(table)) {
		// Its columns: number, local and remote address, state, … , inode.
		if f := strings.Fields(line); len(f) > 9 && f[1] == local && f[2] == remote && f[9] != "0" {
			return f[9]
		}
	}
	return ""
}

// inTable is an address of IPv4 as the kernel writes it.
func inTable(a *net.TCPAddr) string {
	ip := a.IP.To4()
	if ip == nil {
		return ""
	}
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], a.Port)
}
