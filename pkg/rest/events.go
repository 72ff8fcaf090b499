package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// Settings of event streams.
const (
	// heartbeat keeps proxies between us and the client from closing a stream that
	// is quiet, and finds clients that are gone.
	heartbeat = 20 * time.Second
	// slowClient is how long a client may take to accept what is written. Nothing
	// is queued for it meanwhile: it is behind in the log, and then it is dropped.
	slowClient = 10 * time.Second
	// maxStreams bounds the memory of all streams.
	maxStreams = 10_000
)

// events streams changes as server-sent events. Each names its revision as the
// id, so that a client that connects again goes on where it was. A revision's id
// comes with its last event: nothing of it is lost in between.
//
// There are thousands of streams that wait, so what stays on the stack meanwhile
// is small: a stack that is twice as large is as much memory as all else of one.
func (a *API) events(w http.ResponseWriter, r *http.Request) error {
	out, err := a.openStream(w, r)
	if err != nil {
		return err
	}
	defer out.close()
	if a.beginStream(out, r) != nil {
		return nil
	}
	for a.pumped(r, out) && out.wait(r.Context()) {
	}
	return nil
}

// openStream takes what a stream needs, which close gives back.
func (a *API) openStream(w http.ResponseWriter, r *http.Request) (*stream, error) {
	f, err := a.parseChangeFilter(r.URL.Query())
	if err != nil {
		return nil, err
	}
	after, err := a.eventsAfter(r)
	if err != nil {
		return nil, err
	}
	out := &stream{w: w, c: http.NewResponseController(w), after: after, filter: f}
	// The server's limits are for requests, which end.
	if err := errors.Join(out.c.SetReadDeadline(time.Time{}), out.c.SetWriteDeadline(time.Time{})); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	if a.streams.Add(1) > maxStreams {
		a.streams.Add(-1)
		return nil, busy("there are too many event streams")
	}
	releaseSlot(r.Context()) // a stream is no request under way
	s := a.View.Snapshot()
	a.feed.join(s)
	sub := a.View.Subscribe()
	out.rev, out.wake, out.stopping = s.Revision(), sub.C(), stopping(r.Context())
	out.beat = time.NewTicker(heartbeat) // a keepalive
	out.close = func() {
		out.beat.Stop()
		sub.Close()
		a.feed.leave()
		a.streams.Add(-1)
	}
	return out, nil
}

// beginStream sends the head of the answer, and where the client is.
func (a *API) beginStream(out *stream, r *http.Request) error {
	h := out.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	noteRevision(out.w, out.rev)
	out.w.WriteHeader(http.StatusOK)
	return out.position("position")
}

// pumped sends all that is new, and tells whether the stream goes on.
func (a *API) pumped(r *http.Request, out *stream) bool {
	for {
		more, err := a.pump(r, out, &out.filter)
		switch {
		case errors.Is(err, store.ErrCompacted):
			_ = out.send("gone", []byte(`{"detail":"what follows is no longer kept: read everything again and connect without Last-Event-ID"}`), 0)
			return false
		case errors.Is(err, store.ErrUnavailable): // the view tells when it is back
			return true
		case err != nil:
			return false
		case !more:
			return true
		}
	}
}

// wait returns when there may be something new, or false when the stream ends.
func (s *stream) wait(ctx context.Context) bool {
	select {
	case <-s.wake:
		return true
	case <-s.beat.C:
		return s.position("") == nil
	case <-s.stopping:
		return false
	case <-ctx.Done():
		return false
	}
}

// eventsAfter is the revision that the client has, or the newest.
func (a *API) eventsAfter(r *http.Request) (store.Revision, error) {
	head := a.View.Snapshot().Revision()
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = r.URL.Query().Get("after")
	}
	if text == "" {
		return head, nil
	}
	rev, err := a.revisionAt(r.Context(), "after", text, head)
	if err != nil {
		return 0, err
	}
	if rev < head {
		if _, err := a.Store.Read(r.Context(), rev, 1); errors.Is(err, store.ErrCompacted) {
			return 0, gone("revision %d is no longer kept: read everything again and connect without Last-Event-ID", rev)
		}
	}
	return rev, nil
}

// pump sends what is new, a bounded part at a time, and tells whether there may
// be more.
func (a *API) pump(r *http.Request, out *stream, f *changeFilter) (more bool, err error) {
	batches, err := a.feed.after(r.Context(), a, out.after)
	if err != nil {
		return false, err
	}
	user := auth.UserFrom(r.Context())
	for i := range batches {
		b := &batches[i]
		var chosen []*event
		for j := range b.events {
			e := &b.events[j]
			if !f.selects(e.commit, e.change) {
				continue
			}
			before := func() *resource.Meta {
				if e.before != nil {
					return e.before
				}
				return a.before(r.Context(), b.rev, e.change.ID)()
			}
			if a.mayKnow(user, e.change, before) {
				chosen = append(chosen, e)
			}
		}
		for j, e := range chosen {
			id := store.Revision(0)
			if j == len(chosen)-1 {
				id = b.rev
			}
			if err := out.write(e.name, e.data(), id); err != nil {
				return false, err
			}
		}
		out.after = b.rev
	}
	if out.dirty {
		err = out.flush()
	}
	return len(batches) > 0, err
}

// stream writes server-sent events. Nothing is kept for a client: what it does
// not accept in time ends its stream.
type stream struct {
	w      http.ResponseWriter
	c      *http.ResponseController
	filter changeFilter
	after  store.Revision // the client has everything up to here
	dirty  bool

	rev      store.Revision // when it began
	wake     <-chan struct{}
	beat     *time.Ticker
	stopping <-chan struct{}
	close    func()
}

// position tells the client where it is: an event, or without a name only the id.
func (s *stream) position(name string) error {
	if name == "" {
		s.deadline()
		if _, err := fmt.Fprintf(s.w, ": alive\nid: %d\n\n", s.after); err != nil {
			return err
		}
		return s.flush()
	}
	return s.send(name, fmt.Appendf(nil, `{"revision":%d}`, s.after), s.after)
}

func (s *stream) send(name string, data []byte, id store.Revision) error {
	if err := s.write(name, data, id); err != nil {
		return err
	}
	return s.flush()
}

func (s *stream) write(name string, data []byte, id store.Revision) error {
	if !s.dirty {
		s.deadline()
	}
	s.dirty = true
	line := make([]byte, 0, len(data)+64)
	line = append(line, "event: "+name+"\n"...)
	if id > 0 {
		line = append(strconv.AppendUint(append(line, "id: "...), uint64(id), 10), '\n')
	}
	line = append(append(append(line, "data: "...), data...), "\n\n"...)
	_, err := s.w.Write(line)
	return err
}

func (s *stream) flush() error {
	s.dirty = false
	err := s.c.Flush()
	_ = s.c.SetWriteDeadline(time.Time{})
	return err
}

func (s *stream) deadline() { _ = s.c.SetWriteDeadline(time.Now().Add(slowClient)) }

type stoppingKey struct{}

// withStopping tells streams, which would never end, that the server is to stop.
func withStopping(ctx context.Context, done <-chan struct{}) context.Context {
	return context.WithValue(ctx, stoppingKey{}, done)
}

func stopping(ctx context.Context) <-chan struct{} {
	done, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return done
}
