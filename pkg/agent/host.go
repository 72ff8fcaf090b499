package agent

import (
	"net"
	"os"
	"strconv"
	"strings"
)

// systemCA returns where this system keeps the CAs it trusts, empty if unknown.
func systemCA() string {
	for _, p := range []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Gentoo, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL 6
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7 and later
		"/etc/ssl/cert.pem",                                 // Alpine, macOS
	} {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// memoryLimit returns the limit of this control group, 0 when there is none.
func memoryLimit() uint64 {
	for _, p := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
		if err == nil && n < 1<<60 { // version 1 writes a huge number for no limit
			return n
		}
	}
	return 0
}

// HasIPv6 reports whether an interface of this machine has an IPv6 address.
func HasIPv6() bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil {
			return true
		}
	}
	return false
}
