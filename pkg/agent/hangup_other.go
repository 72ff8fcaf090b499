//go:build !linux

package agent

import (
	"errors"
	"net/netip"
	"time"
)

// hangUp is possible on Linux only.
func hangUp(int, map[netip.AddrPort]bool, time.Duration) (int, error) {
	return 0, errors.New("connections of another process cannot be ended on this system")
}
