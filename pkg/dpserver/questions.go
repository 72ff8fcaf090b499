package dpserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/status"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// An agent keeps a connection on which this side asks: HTTP/1.1 with the roles
// exchanged after an upgrade. So Envoy's administration listens on no network,
// and nothing has to reach the workload's machine from here. The agent answers
// GET of a few paths only.

// questionProtocol is what such a connection is upgraded to.
const questionProtocol = "atoll-questions"

const (
	maxAnswer     = 64 << 20 // a configuration with thousands of destinations
	answerTimeout = 10 * time.Second
)

// ErrNotReachable says that no agent of the proxy is connected to this instance
// for questions.
var ErrNotReachable = errors.New("its agent is not connected to this control plane, or is too old to answer questions")

// questions is the open connections, the newest of each proxy.
type questions struct {
	mu      sync.Mutex
	open    map[resource.ID]*channel
	stopped bool
}

// channel is a connection to one agent. It answers one question at a time.
type channel struct {
	conn    net.Conn
	turn    chan struct{} // cap 1: whoever holds it asks
	answers chan answered
	gone    chan struct{}
}

type answered struct {
	status int
	body   []byte
}

// serveQuestions takes an agent's connection.
func (s *Server) serveQuestions(w http.ResponseWriter, r *http.Request) {
	id := resource.ID{Type: kind.Dataplane, Mesh: r.URL.Query().Get("mesh"), Name: r.URL.Query().Get("name")}
	dp := s.cfg.View.Snapshot().Get(id)
	if dp == nil {
		http.Error(w, id.String()+" does not exist yet", http.StatusServiceUnavailable)
		return
	}
	token, _ := auth.Bearer(r.Header.Get("Authorization"))
	if err := s.authenticate(r.Context(), token, dp); err != nil {
		http.Error(w, status.Convert(err).Message(), http.StatusUnauthorized)
		return
	}
	hijacker, ok := w.(http.Hijacker)
	if !ok || r.Header.Get("Upgrade") != questionProtocol {
		http.Error(w, "this path is for agents, which upgrade to "+questionProtocol, http.StatusUpgradeRequired)
		return
	}
	conn, buffered, err := hijacker.Hijack()
	if err != nil {
		s.log.Error("a connection for questions could not be taken over", "dataplane", id, "error", err)
		return
	}
	c := &channel{conn: conn, turn: make(chan struct{}, 1), answers: make(chan answered), gone: make(chan struct{})}
	// It is known before the agent hears that it is, and asked only after that.
	c.turn <- struct{}{}
	gone, added := s.hangUps.join(id, c)
	if !added {
		conn.Close()
		return
	}
	if err = conn.SetDeadline(time.Time{}); err == nil {
		_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", questionProtocol)
	}
	if err != nil {
		conn.Close() // which ends read
	}
	<-c.turn
	if len(gone) > 0 {
		s.hangUp(r.Context(), map[resource.ID]*channel{id: c}, gone)
	}
	if s.tells(id) {
		s.tellAgent(id, c)
	}
	c.read(buffered.Reader)
	s.questions.remove(id, c)
}

// add makes c the connection of a proxy. It is false when the server has stopped:
// nobody would close c then.
func (q *questions) add(id resource.ID, c *channel) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return false
	}
	if old := q.open[id]; old != nil {
		old.conn.Close() // its agent has a newer one
	}
	if q.open == nil {
		q.open = map[resource.ID]*channel{}
	}
	q.open[id] = c
	return true
}

func (q *questions) remove(id resource.ID, c *channel) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open[id] == c {
		delete(q.open, id)
	}
}

func (q *questions) get(id resource.ID) *channel {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.open[id]
}

// stop closes all connections: http.Server does not know them any more.
func (q *questions) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped = true
	for _, c := range q.open {
		c.conn.Close()
	}
}

// read hands out what comes until the connection ends.
func (c *channel) read(r *bufio.Reader) {
	defer close(c.gone)
	defer c.conn.Close()
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
		resp.Body.Close()
		if err != nil || len(body) > maxAnswer {
			return
		}
		select {
		case c.answers <- answered{resp.StatusCode, body}:
		case <-time.After(answerTimeout): // nobody asked: the agent is out of step
			return
		}
	}
}

// ask asks for a path.
func (c *channel) ask(ctx context.Context, path string) ([]byte, error) {
	return c.call(ctx, http.MethodGet, path)
}

// call makes a request. One that is not answered ends the connection, since later
// answers would be taken for others.
func (c *channel) call(ctx context.Context, method, path string) ([]byte, error) {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-c.gone:
		return nil, ErrNotReachable
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, nil)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, err
	}
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		c.conn.Close()
		return nil, ErrNotReachable
	}
	select {
	case a := <-c.answers:
		if a.status != http.StatusOK {
			return nil, fmt.Errorf("the proxy answers %d: %s", a.status, bytes.TrimSpace(a.body))
		}
		return a.body, nil
	case <-c.gone:
		return nil, ErrNotReachable
	case <-ctx.Done():
		c.conn.Close()
		return nil, fmt.Errorf("the proxy did not answer in time: %w", ctx.Err())
	}
}

// ConfigDump returns the configuration that a proxy's Envoy runs with, without
// the token that it authenticates with.
func (s *Server) ConfigDump(ctx context.Context, dataplane resource.ID, includeEDS bool) ([]byte, error) {
	path := "/config_dump"
	if includeEDS {
		path += "?include_eds"
	}
	b, err := s.askProxy(ctx, dataplane, path)
	if err != nil {
		return nil, err
	}
	return withoutTokens(b)
}

// Stats returns the statistics of a proxy's Envoy.
func (s *Server) Stats(ctx context.Context, dataplane resource.ID, usedOnly, asJSON bool) ([]byte, error) {
	q := url.Values{}
	if usedOnly {
		q.Set("usedonly", "")
	}
	return s.askProxy(ctx, dataplane, "/stats"+format(q, asJSON))
}

// Clusters returns the clusters of a proxy's Envoy and their endpoints.
func (s *Server) Clusters(ctx context.Context, dataplane resource.ID, asJSON bool) ([]byte, error) {
	return s.askProxy(ctx, dataplane, "/clusters"+format(url.Values{}, asJSON))
}

func format(q url.Values, asJSON bool) string {
	if asJSON {
		q.Set("format", "json")
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + q.Encode()
}

func (s *Server) askProxy(ctx context.Context, dataplane resource.ID, path string) ([]byte, error) {
	dataplane.Type = kind.Dataplane
	c := s.questions.get(dataplane)
	if c == nil {
		return nil, fmt.Errorf("%s: %w", dataplane, ErrNotReachable)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	b, err := c.ask(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dataplane, err)
	}
	return b, nil
}

const redacted = "[redacted]"

// withoutTokens blanks, wherever they occur, the values of the header
// authorization in the bootstrap of a configuration dump.
func withoutTokens(dump []byte) ([]byte, error) {
	var doc any
	d := json.NewDecoder(bytes.NewReader(dump))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("the proxy's configuration is not valid JSON: %w", err)
	}
	tokens := map[string]bool{}
	visit(doc, func(m map[string]any) {
		if m["key"] == "authorization" {
			if v, ok := m["value"].(string); ok && v != "" {
				tokens[v] = true
			}
		}
	})
	for token := range tokens {
		quoted, err := json.Marshal(token)
		if err != nil {
			return nil, err
		}
		dump = bytes.ReplaceAll(dump, quoted[1:len(quoted)-1], []byte(redacted))
	}
	return dump, nil
}

// visit calls f for every object in a document.
func visit(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, member := range v {
			visit(member, f)
		}
	case []any:
		for _, item := range v {
			visit(item, f)
		}
	}
}

// InfoOf is what a proxy said about itself, as its insight has it.
func InfoOf(dataplane resource.ID, insight *meshproto.DataplaneInsight) compile.ProxyInfo {
	// What cannot be read is left out, as it is when a proxy connects.
	p, _ := parseNode(&core.Node{Id: dataplane.Mesh + "." + dataplane.Name, Metadata: insight.GetMetadata()})
	info := p.ProxyInfo
	info.ID = dataplane
	return info
}
