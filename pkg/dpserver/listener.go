package dpserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Hosts of proxies that vanish without a word are found by the kernel, which
// costs this process nothing: a proxy that sends nothing is probed, and given up
// when it has not acknowledged anything for goneAfter.
const goneAfter = 30 * time.Second

var probes = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// splitter serves two protocols on one port: it shakes hands and gives each
// connection to the server for it. gRPC clients speak HTTP/2 only; clients of
// the bootstrap document can do with HTTP/1.1, which is preferred when a client
// offers both. So ALPN tells them apart, and gRPC gets its connections as they
// are instead of through net/http, which costs several times the memory.
type splitter struct {
	net.Listener
	tls     *tls.Config
	timeout time.Duration // of a handshake
	log     *slog.Logger
	rpc     *handover
	web     *handover
}

// alpn is in order of preference.
var alpn = []string{"http/1.1", "h2"}

func newSplitter(l net.Listener, cfg *tls.Config, timeout time.Duration, log *slog.Logger) *splitter {
	cfg = cfg.Clone()
	cfg.NextProtos = alpn
	// Small records at the beginning and after each pause would help pages appear
	// sooner; here they cost a write to the kernel for every 1.2 kB of a change.
	cfg.DynamicRecordSizingDisabled = true
	return &splitter{Listener: l, tls: cfg, timeout: timeout, log: log, rpc: newHandover(l.Addr()), web: newHandover(l.Addr())}
}

// run accepts until the listener is closed.
func (s *splitter) run() error {
	defer s.rpc.Close()
	defer s.web.Close()
	for {
		c, err := s.Accept()
		if err != nil {
			var temporary net.Error
			if errors.As(err, &temporary) && temporary.Timeout() {
				continue
			}
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go s.shake(c)
	}
}

func (s *splitter) shake(raw net.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
	defer cancel()
	c := tls.Server(raw, s.tls)
	if err := c.HandshakeContext(ctx); err != nil {
		s.log.Debug("a TLS handshake failed", "peer", raw.RemoteAddr().String(), "error", err)
		raw.Close()
		return
	}
	switch c.ConnectionState().NegotiatedProtocol {
	case "h2":
		s.rpc.give(c)
	case "http/1.1":
		s.web.give(c)
	default:
		// Without ALPN the preface of HTTP/2 (RFC 9113, section 3.4) tells.
		if err := c.SetReadDeadline(time.Now().Add(s.timeout)); err != nil {
			raw.Close()
			return
		}
		p := &peeked{Conn: c, r: bufio.NewReaderSize(c, 16)}
		first, err := p.r.Peek(3)
		if err == nil {
			err = c.SetReadDeadline(time.Time{})
		}
		switch {
		case err != nil:
			raw.Close()
		case string(first) == "PRI":
			s.rpc.give(p)
		default:
			s.web.give(p)
		}
	}
}

// peeked is a connection whose first bytes were looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.r == nil {
		return p.Conn.Read(b)
	}
	n, err := p.r.Read(b)
	if p.r.Buffered() == 0 {
		p.r = nil // the rest needs no buffer
	}
	return n, err
}

// handover is a listener whose connections come from elsewhere.
type handover struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover(addr net.Addr) *handover {
	return &handover{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return h.addr }
