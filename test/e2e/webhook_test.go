package e2e

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// cloudEvent is what receivers read.
type cloudEvent struct {
	ID, Type string
	Data     struct{ Event, Zone string }
}

// TestWebhookSurvivesKill kills a global while a receiver has a notice that it did
// not answer yet: it is delivered again, and nothing after it is lost. The stream
// of events goes on where it was as well.
func TestWebhookSurvivesKill(t *testing.T) {
	c := clustertest.New(t)
	global, err := c.Global(t.Context(), nil, "ATOLL_WEBHOOKS_ALLOWED_ADDRESSES=127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []cloudEvent
	holding, release := make(chan struct{}), make(chan struct{})
	first := sync.OnceFunc(func() { close(holding); <-release })
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e cloudEvent
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			t.Errorf("no event: %v", err)
		}
		mu.Lock()
		got = append(got, e)
		mu.Unlock()
		if !strings.HasPrefix(r.Header.Get("Atoll-Signature"), "t=") {
			t.Error("a request is not signed")
		}
		first()
	}))
	defer receiver.Close()

	for _, doc := range []string{
		"type: GlobalSecret\nname: hook\ndata: " + base64.StdEncoding.EncodeToString([]byte("s3cret")) + "\n",
		"type: Webhook\nname: hook\nspec: {url: \"" + receiver.URL + "\", secret: {name: hook}, events: [ZoneDraining, ZoneDrained, ZoneUndraining, ZoneUndrained]}\n",
		"type: Zone\nname: east\n",
	} {
		if out, errOut, code := clustertest.Ctl(t, c, global.URL, doc, "apply", "-f", "-"); code != 0 {
			t.Fatalf("apply: %d\n%s%s", code, out, errOut)
		}
	}
	cursor := func(ctx context.Context) (string, error) {
		var hook struct {
			Status struct {
				Cursor string
				Dead   int
			}
		}
		err := global.Do(ctx, http.MethodGet, "/webhooks/hook", nil, &hook)
		return hook.Status.Cursor, err
	}
	until(t, "the hook knows where it begins", func(ctx context.Context) error {
		if c, err := cursor(ctx); err != nil || c == "" {
			return fmt.Errorf("cursor %q: %w", c, err)
		}
		return nil
	})
	drain := map[string]any{"force": true, "ramp": "1s", "timeout": "0s"}
	if err := global.Do(t.Context(), http.MethodPost, "/zones/east/_drain", drain, nil); err != nil {
		t.Fatal(err)
	}
	<-holding
	stream := listen(t, global.URL, "0")
	seen := stream.until(t, "ZoneDrained")
	global.Kill()
	close(release)
	if err := global.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := global.Do(t.Context(), http.MethodPost, "/zones/east/_undrain", map[string]any{}, nil); err != nil {
		t.Fatal(err)
	}
	again := listen(t, global.URL, stream.last)
	seen = append(seen, again.until(t, "ZoneUndrained")...)
	until(t, "everything is delivered", func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if n := len(got); n == 0 || got[n-1].Data.Event != "ZoneUndrained" {
			return fmt.Errorf("got %+v", got)
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	var events []string
	for _, e := range slices.CompactFunc(slices.Clone(got), func(a, b cloudEvent) bool { return a.ID == b.ID }) {
		if e.Data.Zone != "east" || e.Type != "mesh.atoll."+e.Data.Event {
			t.Errorf("%+v", e)
		}
		events = append(events, e.Data.Event)
	}
	want := []string{"ZoneDraining", "ZoneDrained", "ZoneUndraining", "ZoneUndrained"}
	if !slices.Equal(events, want) || len(got) < 2 || got[0].ID != got[1].ID {
		t.Errorf("got %+v, want each of %v and the first twice", got, want)
	}
	if !slices.Equal(seen, want) {
		t.Errorf("streamed %v, want %v", seen, want)
	}
}

func until(t *testing.T, what string, met func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cluster.Until(ctx, what, met); err != nil {
		t.Fatal(err)
	}
}

// events is a stream of notices.
type events struct {
	body io.Closer
	in   *bufio.Scanner
	last string // id
}

func listen(t *testing.T, url, after string) *events {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/events?kind=Notice", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", after)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	return &events{body: resp.Body, in: bufio.NewScanner(resp.Body), last: after}
}

// until returns the events about draining up to one of a type.
func (e *events) until(t *testing.T, last string) []string {
	t.Helper()
	var out []string
	name := ""
	for e.in.Scan() {
		switch field, value, _ := strings.Cut(e.in.Text(), ": "); field {
		case "event":
			name = value
		case "id":
			e.last = value
		case "data":
			var ce cloudEvent
			if err := json.Unmarshal([]byte(value), &ce); err != nil || ce.Data.Event != "" && ce.Data.Event != name {
				t.Errorf("event %s: %v %s", name, err, value)
			}
			if strings.Contains(name, "drain") || strings.Contains(name, "Drain") {
				out = append(out, name)
			}
			if name == last {
				return out
			}
		}
	}
	t.Fatalf("the stream ended before %s: %v; had %v", last, e.in.Err(), out)
	return nil
}
