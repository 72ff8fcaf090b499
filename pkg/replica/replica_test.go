package replica

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// group is replicas that share a store.
type group struct {
	t  *testing.T
	st store.Store
}

type member struct {
	*Replica
	view  *view.View
	end   context.CancelFunc
	ended chan error
}

// start runs a replica that knows some names, and waits until others can see it.
func (g *group) start(id string, knows map[string]string) *member {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	v := view.New(resource.NewKinds(kind.All()...), resource.Site{Global: true, Env: resource.EnvUniversal}, log)
	go view.Follow(g.t.Context(), g.st, v)
	ctx, cancel := context.WithCancel(g.t.Context())
	m := &member{view: v, end: cancel, ended: make(chan error, 1)}
	m.Replica = New(Config{
		View: v, Store: g.st, Log: log, ID: id, Listener: l, Address: l.Addr().String(),
		Answer: func(_ context.Context, q Question) ([]byte, error) {
			switch answer := knows[q.Name]; answer {
			case "":
				return nil, fmt.Errorf("%s: not known to %s: %w", q.Name, id, ErrElsewhere)
			case "fails":
				return nil, errors.New("the proxy answers 500")
			default:
				return []byte(answer), nil
			}
		},
	})
	go func() { m.ended <- m.Run(ctx) }()
	m.until(func(s *view.Snapshot) bool { return s.Get(entryID(id)) != nil })
	return m
}

// until waits until the member sees something.
func (m *member) until(seen func(*view.Snapshot) bool) {
	sub := m.view.Subscribe()
	defer sub.Close()
	for !seen(m.view.Snapshot()) {
		<-sub.C()
	}
}

func (m *member) stop() error {
	m.end()
	return <-m.ended
}

func newGroup(t *testing.T) *group {
	g := &group{t, memory.Open()}
	t.Cleanup(func() { g.st.Close() })
	return g
}

func (m *member) sees(others ...string) {
	m.until(func(*view.Snapshot) bool { return slices.Equal(m.Others(), others) })
}

// TestAsk: the replica that can answer does, whichever was asked.
func TestAsk(t *testing.T) {
	g := newGroup(t)
	a, b, c := g.start("a", map[string]string{"here": "1"}), g.start("b", map[string]string{"there": "2", "bad": "fails"}), g.start("c", nil)
	a.sees("b", "c")
	c.sees("a", "b")
	ask := func(m *member, name string) string {
		got, err := m.Ask(t.Context(), Question{Ask: "stats", Name: name})
		return fmt.Sprint(string(got), err)
	}
	for name, want := range map[string]string{
		"here": "1<nil>", "there": "2<nil>", "bad": "the proxy answers 500",
	} {
		for _, m := range []*member{a, b, c} {
			if got := ask(m, name); got != want {
				t.Errorf("%s asked for %s: %q, want %q", m.cfg.ID, name, got, want)
			}
		}
	}
	if _, err := c.Ask(t.Context(), Question{Name: "nowhere"}); !errors.Is(err, ErrElsewhere) || !strings.Contains(err.Error(), "not known to c") {
		t.Errorf("what nobody knows: %v", err)
	}
	if _, err := a.AskAll(t.Context(), Question{Name: "here"}); err == nil {
		t.Error("parts that are missing go unnoticed")
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	a.sees("c") // it said farewell
	if _, err := a.Ask(t.Context(), Question{Name: "there"}); !errors.Is(err, ErrElsewhere) {
		t.Errorf("what a replica knew that is gone: %v", err)
	}
	for _, m := range []*member{a, c} {
		if err := m.stop(); err != nil {
			t.Error(err)
		}
	}
}

// TestRunEndsWithItsSocket: a replica that nobody can ask says so.
// A question of which all know a part is answered by all.
func TestAskAll(t *testing.T) {
	g := newGroup(t)
	a, b := g.start("a", map[string]string{"count": "1"}), g.start("b", map[string]string{"count": "2"})
	a.sees("b")
	parts, err := a.AskAll(t.Context(), Question{Name: "count"})
	if err != nil || string(bytes.Join(parts, []byte("+"))) != "1+2" {
		t.Errorf("%q %v", parts, err)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	a.sees()
	if parts, err = a.AskAll(t.Context(), Question{Name: "count"}); err != nil || len(parts) != 1 {
		t.Errorf("alone: %q %v", parts, err)
	}
}

func TestRunEndsWithItsSocket(t *testing.T) {
	g := newGroup(t)
	a := g.start("a", nil)
	a.cfg.Listener.Close()
	if err := <-a.ended; err == nil || !strings.Contains(err.Error(), "interCp.server.port") {
		t.Errorf("ended with %v", err)
	}
}

// TestOnlyReplicasAreAnswered: others have no certificate of the authority, and
// a replica does not take them for one either.
func TestOnlyReplicasAreAnswered(t *testing.T) {
	g := newGroup(t)
	a := g.start("a", map[string]string{"secret": "1"})
	defer a.stop()
	foreign, err := newCA()
	if err != nil {
		t.Fatal(err)
	}
	other, err := newAuthority(foreign)
	if err != nil {
		t.Fatal(err)
	}
	url := "https://" + a.cfg.Address + askPath
	ours := a.view.Snapshot().Get(authorityID)
	pair, err := newAuthority(resource.SpecOf[systemv1.Secret](ours).GetData().GetValue())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		tls *tls.Config
		ok  bool
	}{
		"a replica":            {pair.client(), true},
		"nobody":               {&tls.Config{RootCAs: pair.roots, ServerName: serverName}, false},
		"of another authority": {&tls.Config{RootCAs: pair.roots, ServerName: serverName, Certificates: []tls.Certificate{other.own}}, false},
		"who trusts others":    {&tls.Config{RootCAs: other.roots, ServerName: serverName, Certificates: []tls.Certificate{pair.own}}, false},
	} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}}
		resp, err := client.Post(url, "application/json", bytes.NewReader([]byte(`{"Name":"secret"}`)))
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	leaf, err := x509.ParseCertificate(pair.own.Certificate[0])
	if err != nil || leaf.IsCA {
		t.Errorf("the certificate of a replica: %v, CA %t", err, leaf.IsCA)
	}
}

// TestBury: the death of a replica is noticed once, also of one that died before
// anybody looked; what it left is ended and it is forgotten.
func TestBury(t *testing.T) {
	g := newGroup(t)
	a := g.start("a", nil)
	defer a.stop()
	dead := resource.ID{Type: kind.Config, Name: prefix + "dead"}
	if err := a.put(t.Context(), dead, &systemv1.Config{Config: `{"id":"dead","address":"127.0.0.1:1"}`}); err != nil {
		t.Fatal(err)
	}
	b := g.start("b", nil)
	a.sees("b", "dead")
	if _, err := a.Ask(t.Context(), Question{Name: "x"}); err == nil || !strings.Contains(err.Error(), "the replica dead does not answer") {
		t.Errorf("asking the dead: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	buried := make(chan string, 10)
	ended := make(chan error, 1)
	tries := 0
	go func() {
		ended <- a.Bury(ctx, func(_ context.Context, id string) error {
			tries++
			buried <- id
			return nil
		})
	}()
	if id := <-buried; id != "dead" {
		t.Errorf("buried %s", id)
	}
	a.sees("b") // alive, and not buried
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	a.sees()
	cancel()
	<-ended
	if tries != 1 {
		t.Errorf("%d burials", tries)
	}
}
