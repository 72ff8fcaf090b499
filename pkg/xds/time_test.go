package xds

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// line is a gRPC stream without gRPC, so that time can be virtual.
type line struct {
	grpc.BidiStreamingServer[discovery.DeltaDiscoveryRequest, discovery.DeltaDiscoveryResponse]
	ctx context.Context
	in  chan *discovery.DeltaDiscoveryRequest

	mu   sync.Mutex
	sent []*discovery.DeltaDiscoveryResponse
}

func (l *line) Context() context.Context { return l.ctx }

func (l *line) Recv() (*discovery.DeltaDiscoveryRequest, error) {
	select {
	case req, ok := <-l.in:
		if !ok {
			return nil, io.EOF
		}
		return req, nil
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	}
}

func (l *line) SendMsg(m any) error {
	b, err := proto.Marshal(m.(proto.Message))
	if err != nil {
		return err
	}
	resp := &discovery.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(b, resp); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, resp)
	return nil
}

// take waits until the server is idle and returns what it sent meanwhile.
func (l *line) take() []*discovery.DeltaDiscoveryResponse {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := l.sent
	l.sent = nil
	return sent
}

func open(t *testing.T, p *proxy) (l *line, ended <-chan error) {
	l = &line{ctx: t.Context(), in: make(chan *discovery.DeltaDiscoveryRequest)}
	done := make(chan error, 1)
	go func() { done <- NewServer(p, Options{}).DeltaAggregatedResources(l) }()
	l.in <- &discovery.DeltaDiscoveryRequest{Node: &core.Node{Id: "a"}, TypeUrl: Clusters.URL()}
	return l, done
}

// Changes that nobody looked at yet are one response.
func TestWakesCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := NewLayer(layer(Clusters, res("a", "1"), res("b", "1")))
		p := newProxy(NewSet(1, all))
		l, ended := open(t, p)
		if sent := l.take(); len(sent) != 1 || len(sent[0].Resources) != 2 {
			t.Fatalf("sent %v", sent)
		}
		for i := range 10 {
			all = all.With(layer(Clusters, res("a", "x"+string(rune('0'+i)))))
			p.set.Store(NewSet(uint64(i+2), all))
		}
		wake(p.changed)
		wake(p.changed)
		if sent := l.take(); len(sent) != 1 || sent[0].Resources[0].Version != "x9" || sent[0].SystemVersionInfo != "11" {
			t.Fatalf("sent %v", sent)
		}
		wake(p.changed) // nothing is different
		p.put(NewSet(12, all))
		if sent := l.take(); len(sent) != 0 {
			t.Fatalf("sent %v", sent)
		}
		close(l.in)
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// The gate expires by itself; what was waiting goes out, and the proxy is known
// to be degraded until it answers.
func TestGateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := layer(Clusters, res("a", "1"))
		c.Put(Listeners, res("l", "1"))
		p := newProxy(NewSet(1, NewLayer(c)))
		l, ended := open(t, p)
		l.in <- &discovery.DeltaDiscoveryRequest{TypeUrl: Listeners.URL()}
		first := l.take()
		if len(first) != 1 || first[0].TypeUrl != Clusters.URL() {
			t.Fatalf("sent %v", first)
		}
		p.until(t, "degraded", func(r Report) bool { return r.Degraded })
		if d := time.Since(start); d != gate {
			t.Errorf("degraded after %v", d)
		}
		then := l.take()
		if len(then) != 1 || then[0].TypeUrl != Listeners.URL() {
			t.Fatalf("then sent %v", then)
		}
		for _, resp := range append(first, then...) {
			l.in <- &discovery.DeltaDiscoveryRequest{TypeUrl: resp.TypeUrl, ResponseNonce: resp.Nonce}
		}
		p.until(t, "delivered", func(r Report) bool { return r.Revision == 1 && !r.Degraded })
		close(l.in)
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// A stream that waits for its first set ends when it is told to.
func TestEndBeforeFirstSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProxy(nil)
		_, ended := open(t, p)
		synctest.Wait()
		End(p.end, io.ErrUnexpectedEOF)
		if err := <-ended; err == nil {
			t.Error("ended without the cause")
		}
		if err := <-p.closed; err != io.ErrUnexpectedEOF {
			t.Errorf("session closed with %v", err)
		}
	})
}
