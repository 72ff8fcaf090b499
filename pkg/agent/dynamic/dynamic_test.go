package dynamic

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSource follows what is told: something, the same, something else, nothing.
func TestSource(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	var got []string
	s := New(socket, 0, slog.New(slog.DiscardHandler))
	s.Watch("dns", func(b []byte) error {
		if b == nil {
			got = append(got, "none")
			return nil
		}
		got = append(got, string(b))
		return errors.New("refused") // is not tried again
	})
	s.Refresh(t.Context()) // nobody listens yet

	var body atomic.Pointer[string]
	var full atomic.Int64
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := body.Load()
		switch {
		case b == nil || r.URL.Path != "/dns":
			http.NotFound(w, r)
		case r.Header.Get("If-None-Match") == "of "+*b:
			w.WriteHeader(http.StatusNotModified)
		default:
			full.Add(1)
			w.Header().Set("Etag", "of "+*b)
			_, _ = w.Write([]byte(*b))
		}
	})}
	go func() { _ = h.Serve(l) }()
	defer func() { _ = h.Close() }()

	for _, b := range []*string{nil, new("one"), new("one"), new("two"), nil, nil, new("two")} {
		body.Store(b)
		s.Refresh(t.Context())
	}
	if want := []string{"one", "two", "none", "two"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
	if full.Load() != 3 {
		t.Errorf("content was sent %d times, want 3", full.Load())
	}
	_ = h.Close()
	s.Refresh(t.Context()) // what was told stays
	if len(got) != 4 {
		t.Errorf("told %q after Envoy went away", got)
	}
	s.Alive = func(context.Context) bool { return true } // but does not listen there
	for range goneAfter {
		s.Refresh(t.Context())
	}
	if len(got) != 5 || got[4] != "none" {
		t.Errorf("told %q after the listener went away", got)
	}
}

type answers func() *http.Response

func (f answers) RoundTrip(*http.Request) (*http.Response, error) { return f(), nil }

// TestPush: who is told when to look looks then, a few times, and not in between;
// who is not looks all the time.
func TestPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		s := New("nowhere", time.Second, slog.New(slog.DiscardHandler))
		s.client.Transport = answers(func() *http.Response {
			looks.Add(1)
			return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody}
		})
		s.Watch("dns", func([]byte) error { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		within := func(d time.Duration) int {
			before := looks.Load()
			time.Sleep(d) // virtual
			synctest.Wait()
			return int(looks.Load() - before)
		}
		if n := within(time.Minute); n < 60 || n > 65 {
			t.Errorf("%d looks in a minute that nobody tells of", n)
		}
		s.Push(true)
		if n := within(time.Hour); n != 1+len(settling) {
			t.Errorf("%d looks in an hour after one push", n)
		}
		s.Push(true)
		if n := within(time.Millisecond); n != 1 {
			t.Errorf("%d looks at once after another", n)
		}
		within(time.Minute)
		s.Push(false)
		if n := within(time.Minute); n < 60 || n > 66 {
			t.Errorf("%d looks in a minute after nobody promised any more", n)
		}
		cancel()
		<-done
	})
}
