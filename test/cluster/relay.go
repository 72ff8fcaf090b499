package cluster

import (
	"io"
	"net"
	"sync"
)

// Relay is the network between two processes. While it is cut, nothing passes
// and nobody is told, as when a cable is pulled. Its methods may be called
// concurrently.
type Relay struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	whole  *sync.Cond // signals a change of cut, or the end
	cut    [2]bool    // there and back
	closed bool
}

// The ways of a relay.
const (
	there = iota // from those who connect
	back
)

// NewRelay leads those who connect to it to a target, until it is closed.
func NewRelay(target string) (*Relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Relay{listener: l, target: target}
	r.whole = sync.NewCond(&r.mu)
	go r.accept()
	return r, nil
}

// Address is where to connect to.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// Close ends it. Connections end with those who use them.
func (r *Relay) Close() error {
	r.set(func() { r.cut, r.closed = [2]bool{}, true })
	return r.listener.Close()
}

// Cut breaks the network, CutBack only the way to those who connect, and Heal
// mends it.
func (r *Relay) Cut()     { r.set(func() { r.cut = [2]bool{true, true} }) }
func (r *Relay) CutBack() { r.set(func() { r.cut = [2]bool{back: true} }) }
func (r *Relay) Heal()    { r.set(func() { r.cut = [2]bool{} }) }

// Lead sends new connections elsewhere, as a load balancer does.
func (r *Relay) Lead(target string) { r.set(func() { r.target = target }) }

func (r *Relay) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	r.whole.Broadcast()
}

// pass waits for a network and returns where it leads.
func (r *Relay) pass(way int) (target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.cut[way] && !r.closed {
		r.whole.Wait()
	}
	return r.target
}

func (r *Relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		go r.connect(c)
	}
}

func (r *Relay) connect(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", r.pass(there))
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	carry := func(to io.Writer, from io.Reader, way int) {
		r.copy(to, from, way)
		done <- struct{}{}
	}
	go carry(to, from, there)
	go carry(from, to, back)
	<-done // the other way ends with the connections
}

func (r *Relay) copy(to io.Writer, from io.Reader, way int) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		r.pass(way) // an end of the connection does not pass either
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
