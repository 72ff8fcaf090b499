// Package ports finds TCP ports for what tests and tools start.
package ports

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync/atomic"
)

// The range is below the ports that the kernel gives to outgoing connections, of
// which one could take a port before somebody listens there, or while who listens
// is started again; and above those that tests name.
const (
	lowest = 20_000
	count  = 12_000
)

// Each process begins somewhere else.
var (
	begin = rand.IntN(count)
	taken atomic.Int64
)

// Free returns n ports of a host on which nobody listens. It gives none twice until
// it has given all.
func Free(host string, n int) ([]int, error) {
	list := make([]int, 0, n)
	for range count {
		if len(list) == n {
			return list, nil
		}
		port := lowest + (begin+int(taken.Add(1)))%count
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
		list = append(list, port)
	}
	return nil, fmt.Errorf("%s has no %d free ports between %d and %d", host, n, lowest, lowest+count)
}
