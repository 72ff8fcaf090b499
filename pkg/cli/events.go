package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// change is one change that the server tells of, without what changed.
type change struct {
	Revision  uint64 `json:"revision"`
	Operation string `json:"operation"` // create, update, put or delete
	Mesh      string `json:"mesh"`
	Name      string `json:"name"`
}

// errGone says that the server has forgotten some of what follows: everything has
// to be read again.
var errGone = errors.New("the server does not know any more what changed meanwhile")

// events is a stream of changes (GET /events). What was not taken yet is kept, so
// that who is slow misses nothing; wake is one bit that says that there is some.
type events struct {
	wake chan struct{} // cap 1

	mu      sync.Mutex
	pending []change
	after   uint64 // everything up to this revision is in pending, or was taken
	ended   error  // why the stream ended; nil while it goes on
}

// quietTime is without even the server's sign of life, which comes every 20 s:
// then the connection is dead, whatever its socket says.
const quietTime = 70 * time.Second

// follow opens a stream of what changed after a revision.
func (c *client) follow(ctx context.Context, query url.Values, after uint64) (*events, error) {
	query = cloneQuery(query)
	query.Set("after", strconv.FormatUint(after, 10))
	ctx, cancel := context.WithCancel(ctx)
	streaming := *c
	streaming.http = &http.Client{Transport: c.http.Transport} // it has no end, so it has no timeout
	resp, err := streaming.send(ctx, http.MethodGet, "/events?"+query.Encode(), nil, http.Header{"Accept": {"text/event-stream"}})
	if err == nil && resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		err = problemOf(resp, http.MethodGet, "/events", body)
		if resp.StatusCode == http.StatusGone {
			err = errGone
		}
	}
	if err != nil {
		cancel()
		return nil, err
	}
	e := &events{wake: make(chan struct{}, 1), after: after}
	go func() {
		defer cancel()
		defer resp.Body.Close()
		e.end(e.read(resp.Body, cancel))
	}()
	return e, nil
}

func cloneQuery(q url.Values) url.Values {
	out := url.Values{}
	for key, values := range q {
		out[key] = values
	}
	return out
}

// read takes events until the stream ends, and gives up on one that is quiet.
func (e *events) read(body io.Reader, giveUp func()) error {
	dead := time.AfterFunc(quietTime, giveUp)
	defer dead.Stop()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, 1<<20)
	name, data := "", ""
	for lines.Scan() {
		dead.Reset(quietTime)
		key, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch key {
		case "event":
			name = value
		case "data":
			data = value
		case "id":
			if rev, err := strconv.ParseUint(value, 10, 64); err == nil {
				e.mu.Lock()
				e.after = rev
				e.mu.Unlock()
			}
		case "": // the end of an event, or a comment
			if lines.Text() != "" {
				continue
			}
			if name == "gone" {
				return errGone
			}
			if name == "change" {
				var c change
				if err := json.Unmarshal([]byte(data), &c); err != nil {
					return fmt.Errorf("an event is none: %w", err)
				}
				e.mu.Lock()
				e.pending = append(e.pending, c)
				e.mu.Unlock()
				e.ring()
			}
			name, data = "", ""
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.EOF
}

func (e *events) end(err error) {
	e.mu.Lock()
	e.ended = err
	e.mu.Unlock()
	e.ring()
}

func (e *events) ring() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// take waits for changes and returns all that there are. The error says that the
// stream has ended; after is where the next one goes on.
func (e *events) take(ctx context.Context) (changes []change, after uint64, err error) {
	for {
		e.mu.Lock()
		changes, e.pending = e.pending, nil
		after, err = e.after, e.ended
		e.mu.Unlock()
		if len(changes) > 0 {
			return changes, after, nil
		}
		if err != nil {
			return nil, after, err
		}
		select {
		case <-e.wake:
		case <-ctx.Done():
			return nil, after, ctx.Err()
		}
	}
}
