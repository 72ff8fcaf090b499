package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/webhook"
)

const patience = time.Minute // for what takes milliseconds, on a busy machine

// plane is a control plane that does nothing but tell of notices.
type plane struct {
	t     *testing.T
	kinds *resource.Kinds
	store store.Store
	view  *view.View
	allow []netip.Prefix
	log   *lockedLog
	next  uint64
	stop  func()
}

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newPlane(t *testing.T) *plane {
	p := &plane{t: t, kinds: resource.NewKinds(kind.All()...), store: memory.Open(), log: &lockedLog{}, next: 1}
	p.allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	p.view = view.New(p.kinds, resource.Site{Global: true}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = view.Follow(ctx, p.store, p.view) }()
	t.Cleanup(func() {
		if p.stop != nil {
			p.stop()
		}
		cancel()
		<-done
	})
	p.put(kind.GlobalSecret, "hook", &system_proto.Secret{Data: wrapperspb.Bytes([]byte("s3cret"))})
	return p
}

// lead delivers until stop.
func (p *plane) lead() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- webhook.Run(ctx, webhook.Config{
			View: p.view, Store: p.store, Log: slog.New(slog.NewTextHandler(p.log, nil)), Allow: p.allow, Pause: time.Millisecond,
		})
	}()
	p.stop = func() {
		p.stop = nil
		cancel()
		<-ended
	}
}

func (p *plane) put(t resource.Type, name string, spec any) {
	p.t.Helper()
	id := resource.ID{Type: t, Name: name}
	rev, err := view.Edit(p.t.Context(), p.view, p.store, id, "test", func(old *resource.Object) (*resource.Object, error) {
		var status any
		if old != nil {
			status = old.Status
		}
		return p.kinds.ByType(t).New(resource.Meta{ID: id, Labels: map[string]string{}}, spec, status)
	})
	if err == nil {
		_, err = p.view.Wait(p.t.Context(), rev)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// hook adds a receiver, and returns when it is known where it begins.
func (p *plane) hook(name, url string, change func(*kind.WebhookSpec)) {
	p.t.Helper()
	spec := &kind.WebhookSpec{URL: url, Secret: &kind.WebhookSecret{Name: "hook"}}
	if change != nil {
		change(spec)
	}
	p.put(kind.Webhook, name, spec)
	p.await(name, func(s *kind.WebhookStatus) bool { return s.Cursor != "" })
}

// tell adds notices and returns their names.
func (p *plane) tell(event string, n int) []string {
	p.t.Helper()
	var names []string
	for range n {
		name := kind.NoticeName(p.next)
		p.next++
		p.put(kind.Notice, name, &kind.NoticeSpec{Event: event, Key: name, Time: time.Now(), Zone: "east", Message: "m"})
		names = append(names, name)
	}
	return names
}

func (p *plane) status(name string) *kind.WebhookStatus {
	o := p.view.Snapshot().Get(resource.ID{Type: kind.Webhook, Name: name})
	if o == nil {
		return &kind.WebhookStatus{}
	}
	if st := resource.StatusOf[kind.WebhookStatus](o); st != nil {
		return st
	}
	return &kind.WebhookStatus{}
}

// await waits until a hook is as wanted.
func (p *plane) await(name string, ok func(*kind.WebhookStatus) bool) *kind.WebhookStatus {
	p.t.Helper()
	sub := p.view.Subscribe()
	defer sub.Close()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		if st := p.status(name); ok(st) {
			return st
		}
		select {
		case <-sub.C():
		case <-limit.C:
			p.t.Fatalf("%s is still %+v\n%s", name, p.status(name), p.log)
		}
	}
}

func (p *plane) at(name, notice string) *kind.WebhookStatus {
	p.t.Helper()
	return p.await(name, func(s *kind.WebhookStatus) bool { return s.Cursor >= notice })
}

// receiver notes what it gets, and answers as it is told to.
type receiver struct {
	*httptest.Server
	t      *testing.T
	mu     sync.Mutex
	got    []string // names of notices
	answer func(n int, w http.ResponseWriter, r *http.Request)
}

func newReceiver(t *testing.T, tls bool, answer func(n int, w http.ResponseWriter, r *http.Request)) *receiver {
	r := &receiver{t: t, answer: answer}
	h := http.HandlerFunc(r.serve)
	if tls {
		r.Server = httptest.NewTLSServer(h)
	} else {
		r.Server = httptest.NewServer(h)
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	if err := verify([]byte("s3cret"), req.Header.Get(webhook.SignatureHeader), body, time.Now()); err != nil {
		r.t.Error(err)
	}
	var e struct {
		SpecVersion, ID, Source, Type, DataContentType string
		Time                                           time.Time
		Data                                           struct{ Event, Zone, Message string }
	}
	if err := json.Unmarshal(body, &e); err != nil || e.SpecVersion != "1.0" || e.ID == "" || !strings.HasPrefix(e.Source, "urn:atoll:") ||
		e.Type != "mesh.atoll."+e.Data.Event || e.DataContentType != "application/json" || e.Time.IsZero() || e.Data.Zone != "east" ||
		!strings.HasPrefix(req.Header.Get("Content-Type"), "application/cloudevents+json") {
		r.t.Errorf("no CloudEvent: %v %s", err, body)
	}
	r.mu.Lock()
	r.got = append(r.got, e.ID)
	n := len(r.got)
	r.mu.Unlock()
	if r.answer != nil {
		r.answer(n, w, req)
	}
}

func (r *receiver) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// verify is what docs/failover.md tells receivers to do.
func verify(secret []byte, header string, body []byte, now time.Time) error {
	var t int64
	var v1 string
	if _, err := fmt.Sscanf(strings.ReplaceAll(header, ",", " "), "t=%d v1=%s", &t, &v1); err != nil {
		return fmt.Errorf("signature %q: %w", header, err)
	}
	if age := now.Sub(time.Unix(t, 0)); age > 5*time.Minute || age < -5*time.Minute {
		return fmt.Errorf("signature is %s old", age)
	}
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "%d.%s", t, body)
	want, err := hex.DecodeString(v1)
	if err != nil || !hmac.Equal(m.Sum(nil), want) {
		return fmt.Errorf("signature %q is wrong", header)
	}
	return nil
}

// A receiver that fails two times out of three, in different ways, gets everything
// in order.
func TestFlakyReceiver(t *testing.T) {
	p := newPlane(t)
	p.lead()
	old := p.tell(kind.EventZoneLost, 1) // nobody is interested in what was before
	r := newReceiver(t, true, func(n int, w http.ResponseWriter, req *http.Request) {
		switch n % 3 {
		case 0:
			w.WriteHeader(http.StatusBadGateway)
		case 1:
			panic(http.ErrAbortHandler) // the connection breaks
		}
	})
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw}))
	p.hook("flaky", r.URL, func(s *kind.WebhookSpec) { s.CA = ca })
	var want []string
	for range 10 {
		want = append(want, p.tell(kind.EventGapOpened, 2)...)
	}
	st := p.at("flaky", want[len(want)-1])
	got := r.names()
	if slices.Contains(got, old[0]) || !slices.IsSorted(got) || !slices.Equal(slices.Compact(slices.Clone(got)), want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if st.Delivered != 20 || st.Dead != 0 || st.Failing != nil {
		t.Errorf("%+v", st)
	}
}

// Who does not answer holds back nobody else, and who stops in the middle of a
// delivery delivers again.
func TestSlowReceiverAndRestart(t *testing.T) {
	p := newPlane(t)
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	slow := newReceiver(t, false, func(n int, _ http.ResponseWriter, req *http.Request) {
		if n == 1 {
			arrived <- struct{}{}
			select {
			case <-release:
			case <-req.Context().Done():
			}
		}
	})
	defer close(release)
	fast := newReceiver(t, false, nil)
	p.lead()
	p.hook("slow", slow.URL, func(s *kind.WebhookSpec) { s.Timeout = "1m" })
	p.hook("fast", fast.URL, nil)
	names := p.tell(kind.EventZoneLost, 20)
	<-arrived
	p.at("fast", names[19])
	if got := fast.names(); !slices.Equal(got, names) {
		t.Errorf("got %v", got)
	}
	p.stop() // the slow receiver has the notice, and nobody noted that
	p.lead()
	p.at("slow", names[19])
	if got, want := slow.names(), append([]string{names[0]}, names...); !slices.Equal(got, want) {
		t.Errorf("after a restart got %v", got)
	}
}

func TestDeadLetters(t *testing.T) {
	p := newPlane(t)
	p.lead()
	r := newReceiver(t, false, func(n int, w http.ResponseWriter, req *http.Request) {
		if n <= 3 {
			w.WriteHeader(http.StatusInternalServerError)
		} else if n == 4 {
			w.WriteHeader(http.StatusGone)
		}
	})
	p.hook("hook", r.URL+"/path?token=hidden", func(s *kind.WebhookSpec) { s.Attempts = 3 })
	names := p.tell(kind.EventZoneLost, 3)
	st := p.at("hook", names[2])
	if st.Dead != 2 || st.Delivered != 1 || len(st.DeadLetters) != 2 ||
		st.DeadLetters[0].Notice != names[0] || st.DeadLetters[0].Attempts != 3 || !strings.Contains(st.DeadLetters[0].Error, "500") ||
		st.DeadLetters[0].Content.Event != kind.EventZoneLost ||
		st.DeadLetters[1].Attempts != 1 || !strings.Contains(st.DeadLetters[1].Error, "410") {
		t.Errorf("%+v", st)
	}
	// What cannot be reached is told without what is in its address.
	r.Close()
	p.tell(kind.EventZoneBack, 1)
	st = p.await("hook", func(s *kind.WebhookStatus) bool { return s.Dead == 3 })
	if text := fmt.Sprintf("%+v", st) + p.log.String(); strings.Contains(text, "hidden") || strings.Contains(text, "s3cret") {
		t.Errorf("a secret is told: %s", text)
	}
}

func TestFilterAndSecret(t *testing.T) {
	p := newPlane(t)
	p.lead()
	r := newReceiver(t, false, nil)
	p.hook("hook", r.URL, func(s *kind.WebhookSpec) {
		s.Events = []string{kind.EventZoneLost}
		s.Secret.Name = "later"
	})
	p.tell(kind.EventGapOpened, 2)
	lost := p.tell(kind.EventZoneLost, 1)
	st := p.await("hook", func(s *kind.WebhookStatus) bool { return s.Failing != nil })
	if !strings.Contains(st.Failing.Error, "later") || len(r.names()) != 0 {
		t.Errorf("sent unsigned: %+v %v", st, r.names())
	}
	p.put(kind.GlobalSecret, "later", &system_proto.Secret{Data: wrapperspb.Bytes([]byte("s3cret"))})
	p.at("hook", lost[0])
	if got := r.names(); !slices.Equal(got, lost) {
		t.Errorf("got %v", got)
	}
}

// Neither the machine of the control plane nor its link can be called, whatever
// name they have, and nobody leads there by a redirect.
func TestWhoIsNotCalled(t *testing.T) {
	p := newPlane(t)
	inside := newReceiver(t, false, nil)
	outside := newReceiver(t, false, func(_ int, w http.ResponseWriter, req *http.Request) {
		http.Redirect(w, req, inside.URL, http.StatusTemporaryRedirect)
	})
	p.lead()
	p.hook("redirect", outside.URL, nil)
	p.tell(kind.EventZoneLost, 1)
	st := p.await("redirect", func(s *kind.WebhookStatus) bool { return s.Failing != nil })
	if len(inside.names()) != 0 || !strings.Contains(st.Failing.Error, "redirects") {
		t.Errorf("followed: %+v", st)
	}
	p.stop()
	p.allow = nil
	p.lead()
	_, port, _ := strings.Cut(strings.TrimPrefix(inside.URL, "http://"), ":")
	for i, host := range []string{"127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[fe80::1]", "0.0.0.0", "[::ffff:127.0.0.1]", "224.0.0.1"} {
		name := fmt.Sprint("local-", i)
		p.hook(name, "http://"+host+":"+port, func(s *kind.WebhookSpec) { s.Timeout = "2s" })
		p.tell(kind.EventZoneLost, 1)
		st := p.await(name, func(s *kind.WebhookStatus) bool { return s.Failing != nil })
		if !strings.Contains(st.Failing.Error, "is not called") {
			t.Errorf("%s: %s", host, st.Failing.Error)
		}
	}
	if got := inside.names(); len(got) != 0 {
		t.Errorf("called: %v", got)
	}
}
