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
	from     func(net.Conn) string // who connects; nil: it does not matter

	mu     sync.Mutex
	target string
	whole  *sync.Cond // signals a change of cut, or the end
	// cut is there and back, for all and for connections of some only.
	cut    [2]bool
	some   map[string][2]bool
	closed bool
}

// The ways of a relay.
const (
	there = iota // from those who connect
	back
)

// NewRelay leads those who connect to it to a target, until it is closed.
func NewRelay(target string) (*Relay, error) {
	return NewRelayAt("127.0.0.1:0", target, nil)
}

// NewRelayAt listens at an address. from, unless nil, tells who a connection is
// of, so that some can be cut and others not.
func NewRelayAt(address, target string, from func(net.Conn) string) (*Relay, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	r := &Relay{listener: l, target: target, from: from, some: map[string][2]bool{}}
	r.whole = sync.NewCond(&r.mu)
	go r.accept()
	return r, nil
}

// Address is where to connect to.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// Close ends it. Connections end with those who use them.
func (r *Relay) Close() error {
	r.set(func() { r.cut, r.some, r.closed = [2]bool{}, nil, true })
	return r.listener.Close()
}

// Cut breaks the network, CutBack only the way to those who connect, and Heal
// mends it.
func (r *Relay) Cut()     { r.set(func() { r.cut = [2]bool{true, true} }) }
func (r *Relay) CutBack() { r.set(func() { r.cut = [2]bool{back: true} }) }
func (r *Relay) Heal()    { r.set(func() { r.cut = [2]bool{} }) }

// CutFrom breaks the network for those who connect from somewhere, CutBackTo only
// the way to them, and HealFor mends it.
func (r *Relay) CutFrom(who string)   { r.set(func() { r.some[who] = [2]bool{true, true} }) }
func (r *Relay) CutBackTo(who string) { r.set(func() { r.some[who] = [2]bool{back: true} }) }
func (r *Relay) HealFor(who string)   { r.set(func() { delete(r.some, who) }) }

// Lead sends new connections elsewhere, as a load balancer does.
func (r *Relay) Lead(target string) { r.set(func() { r.target = target }) }

func (r *Relay) set(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	r.whole.Broadcast()
}

// pass waits for a network and returns where it leads.
func (r *Relay) pass(who string, way int) (target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for (r.cut[way] || r.some[who][way]) && !r.closed {
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
	who := ""
	if r.from != nil {
		who = r.from(from)
	}
	to, err := net.Dial("tcp", r.pass(who, there))
	if err != nil {
		return
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	carry := func(to io.Writer, from io.Reader, way int) {
		r.copy(to, from, who, way)
		done <- struct{}{}
	}
	go carry(to, from, there)
	go carry(from, to, back)
	<-done // the other way ends with the connections
}

func (r *Relay) copy(to io.Writer, from io.Reader, who string, way int) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		r.pass(who, way) // an end of the connection does not pass either
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
