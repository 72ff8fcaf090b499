package ports

import (
	"net"
	"strconv"
	"testing"
)

func TestFree(t *testing.T) {
	first, err := Free("127.0.0.1", 20)
	if err != nil {
		t.Fatal(err)
	}
	// What is next is in use, and what was given is not given again.
	busy := lowest + (begin+int(taken.Load())+1)%count
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(busy)))
	if err == nil {
		defer l.Close()
	}
	more, err := Free("127.0.0.1", 20)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{busy: true}
	for _, p := range append(first, more...) {
		if seen[p] || p < lowest || p >= lowest+count {
			t.Errorf("port %d", p)
		}
		seen[p] = true
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	if _, err := Free("192.0.2.1", 1); err == nil {
		t.Error("an address of another machine has free ports")
	}
}
