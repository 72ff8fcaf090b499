package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// eventServer has timeouts of one mesh, and a stream of events that the test
// writes to.
type eventServer struct {
	mu      sync.Mutex
	docs    map[string]string // by name
	lists   int
	streams chan stream
}

// stream is one open stream of events.
type stream struct {
	after string // asked for
	write chan string
}

func (s *eventServer) set(name, doc string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.docs[name] = doc; doc == "" {
		delete(s.docs, name)
	}
}

func (s *eventServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(revisionHeader, "7")
	const items = "/meshes/default/meshtimeouts"
	switch name, one := strings.CutPrefix(r.URL.Path, items+"/"); {
	case r.URL.Path == "/events":
		st := stream{r.URL.Query().Get("after"), make(chan string)}
		if q := r.URL.Query(); q.Get("kind") != "MeshTimeout" || q.Get("mesh") != "default" {
			http.Error(w, "asked for too much", http.StatusTeapot)
			return
		}
		w.(http.Flusher).Flush()
		s.streams <- st
		for text := range st.write {
			fmt.Fprint(w, text)
			w.(http.Flusher).Flush()
		}
	case one:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.docs[name] == "" {
			http.Error(w, `{"title":"no","status":404}`, http.StatusNotFound)
			return
		}
		fmt.Fprint(w, s.docs[name])
	default:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lists++
		var all []string
		for _, doc := range s.docs {
			if strings.Contains(doc, fmt.Sprintf("%q", r.URL.Query().Get("filter[labels.app]"))) {
				all = append(all, doc)
			}
		}
		fmt.Fprintf(w, `{"total":%d,"items":[%s],"next":null}`, len(all), strings.Join(all, ","))
	}
}

func timeoutDoc(name, app string) string {
	return fmt.Sprintf(`{"type":"MeshTimeout","mesh":"default","name":%q,"labels":{"app":%q}}`, name, app)
}

func event(revision int, operation, name string) string {
	return fmt.Sprintf("event: change\nid: %d\ndata: {\"revision\":%d,\"operation\":%q,\"type\":\"MeshTimeout\",\"mesh\":\"default\",\"name\":%q}\n\n", revision, revision, operation, name)
}

// lines hands out what a command prints.
type lines struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(p)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) next(t *testing.T) string {
	t.Helper()
	for {
		l.mu.Lock()
		line, err := l.buf.ReadString('\n')
		if err != nil {
			l.buf.WriteString(line) // not whole yet
		}
		l.mu.Unlock()
		if err == nil {
			return strings.TrimSpace(line)
		}
		select {
		case <-l.more:
		case <-t.Context().Done():
			t.Fatal("nothing is printed")
		}
	}
}

// TestWatchFollowsEvents: only what changed is read, a stream that ends is opened
// again where it was, and what the server forgot is read anew.
func TestWatchFollowsEvents(t *testing.T) {
	s := &eventServer{docs: map[string]string{"a": timeoutDoc("a", "x"), "other": timeoutDoc("other", "y")}, streams: make(chan stream)}
	server := httptest.NewServer(s)
	defer server.Close()
	out := &lines{more: make(chan struct{}, 1)}
	a := &app{out: out, err: io.Discard, output: "name", mesh: "default", server: server.URL, noConfig: true, logLevel: "off", timeout: time.Minute}
	cl, err := a.connect()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		k := kindInfo{Name: "MeshTimeout", Scope: "Mesh", Path: "meshtimeouts"}
		ended <- a.watch(ctx, cl, k, "", &selection{labels: map[string]string{"app": "x"}})
	}()
	want := func(line string) {
		t.Helper()
		if got := out.next(t); got != line {
			t.Fatalf("printed %q, want %q", got, line)
		}
	}
	want("ADDED meshtimeouts/a")
	st := <-s.streams
	if st.after != "7" {
		t.Errorf("events after %s, want 7", st.after)
	}
	s.set("a", strings.Replace(timeoutDoc("a", "x"), "}}", "},\"spec\":{}}", 1))
	s.set("b", timeoutDoc("b", "x"))
	s.set("c", timeoutDoc("c", "z"))
	st.write <- ": alive\nid: 8\n\n" + event(9, "update", "a") + event(10, "create", "b") + event(11, "create", "c")
	want("MODIFIED meshtimeouts/a")
	want("ADDED meshtimeouts/b") // and not c, whose labels differ
	s.set("b", timeoutDoc("b", "z"))
	st.write <- event(12, "update", "b")
	want("DELETED meshtimeouts/b") // it is no longer one of those asked for
	s.set("a", "")
	st.write <- event(13, "delete", "a")
	want("DELETED meshtimeouts/a")
	close(st.write) // the server restarts

	st = <-s.streams
	if st.after != "13" {
		t.Errorf("events after %s, want 13", st.after)
	}
	s.mu.Lock()
	if s.lists != 1 {
		t.Errorf("the list was read %d times", s.lists)
	}
	s.mu.Unlock()
	s.set("new", timeoutDoc("new", "x"))
	st.write <- "event: gone\ndata: {}\n\n"
	want("ADDED meshtimeouts/new")
	close(st.write)
	st = <-s.streams
	cancel()
	close(st.write)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
