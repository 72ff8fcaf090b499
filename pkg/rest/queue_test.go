package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Requests that take much wait for each other; too many are refused at once, and
// who leaves gives up its place.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1)
		done, err := q.wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		left, served := make(chan error, maxQueued-1), make(chan error, 1)
		for range maxQueued - 1 {
			go func() {
				_, err := q.wait(ctx)
				left <- err
			}()
		}
		go func() {
			done, err := q.wait(t.Context())
			if err == nil {
				done()
			}
			served <- err
		}()
		synctest.Wait()
		var p *problem
		if _, err := q.wait(t.Context()); !errors.As(err, &p) || p.Status != http.StatusServiceUnavailable {
			t.Errorf("one too many: %v", err)
		}
		cancel()
		for range maxQueued - 1 {
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("one that left: %v", err)
			}
		}
		done()
		done() // of no effect
		if err := <-served; err != nil {
			t.Error(err)
		}
		if len(q.in) != 0 || len(q.turns) != 0 {
			t.Errorf("%d places and %d turns remain taken", len(q.in), len(q.turns))
		}
	})
}

// Who reads its answer slowly keeps nobody from reading the log.
func TestSlowReadersHoldNoTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, standalone)
		var many []*resource.Object // more than the server buffers
		for i := range 100 {
			many = append(many, w.object("MeshTimeout", "default", fmt.Sprintf("t%d", i), timeoutDoc(1)))
		}
		w.write(many...)
		p := w.piped(someTimeouts)
		for _, path := range []string{"/history", "/history/2", "/meshtimeouts?at=1"} {
			c := p.dial()
			defer c.Close()
			io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
			synctest.Wait()
			if n := len(w.api.logReads.in); n != 0 {
				t.Errorf("%s: %d turns are held while the answer is not read", path, n)
			}
			if status, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(status, " 200 ") {
				t.Errorf("%s: %s %v", path, status, err)
			}
		}
	})
}
