package dpserver

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// giveUp has the kernel end connections whose peer acknowledges nothing for a
// while, probes of keep-alive included (TCP_USER_TIMEOUT of tcp(7)). Connections
// inherit it from the socket that listens.
func giveUp(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(goneAfter.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
