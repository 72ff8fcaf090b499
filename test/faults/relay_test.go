package faults

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay is the network between two processes. While it is cut, nothing passes
// and nobody is told, as when a cable is pulled.
type relay struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	whole  *sync.Cond // signals a change of cut, or the end
	cut    bool
	closed bool
}

func newRelay(t testing.TB, target string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, target: target}
	r.whole = sync.NewCond(&r.mu)
	go r.accept()
	t.Cleanup(func() {
		l.Close()
		r.set(false, true)
	})
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// Cut and Heal break and mend the network.
func (r *relay) Cut()  { r.set(true, false) }
func (r *relay) Heal() { r.set(false, false) }

// Lead sends new connections elsewhere, as a load balancer does.
func (r *relay) Lead(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

func (r *relay) set(cut, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut, r.closed = cut, closed
	r.whole.Broadcast()
}

// pass waits for a network and returns where it leads.
func (r *relay) pass() (target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut && !r.closed {
		r.whole.Wait()
	}
	return r.target
}

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.connect(c)
	}
}

func (r *relay) connect(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", r.pass())
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			r.copy(way[1], way[0])
			done <- struct{}{}
		}()
	}
	<-done // the other way ends with the connections
}

func (r *relay) copy(to io.Writer, from io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		r.pass() // an end of the connection does not pass either
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
