package delta

import (
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
)

// walker drives a stream where a script would be too rigid.
type walker struct {
	t   *testing.T
	s   *Stream
	now time.Time
}

func (w *walker) handle(req *discovery.DeltaDiscoveryRequest) {
	w.t.Helper()
	if err := w.s.Handle(req, w.now); err != nil {
		w.t.Fatal(err)
	}
}

func (w *walker) request(url string, names ...string) {
	w.t.Helper()
	w.handle(&discovery.DeltaDiscoveryRequest{TypeUrl: url, ResourceNamesSubscribe: names})
}

func (w *walker) ack(m *Message) {
	w.t.Helper()
	w.handle(&discovery.DeltaDiscoveryRequest{TypeUrl: m.URL, ResponseNonce: m.Nonce})
}

func (w *walker) nack(m *Message, text string) {
	w.t.Helper()
	w.handle(&discovery.DeltaDiscoveryRequest{TypeUrl: m.URL, ResponseNonce: m.Nonce, ErrorDetail: &rpc.Status{Message: text}})
}

func (w *walker) next() *Message {
	w.t.Helper()
	m := w.s.Next(w.now)
	if m == nil {
		w.t.Fatal("nothing to be sent")
	}
	return m
}
