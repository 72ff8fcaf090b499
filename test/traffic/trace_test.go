package traffic_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// span is what Zipkin's API takes, as far as it is looked at.
type span struct {
	TraceID string            `json:"traceId"`
	Kind    string            `json:"kind"`
	Tags    map[string]string `json:"tags"`
}

// traceRequests: a request through both Envoys gives a span of each, in one
// trace.
func traceRequests(t *testing.T, s *served) {
	var mu sync.Mutex
	var spans []span
	zipkin := traffic.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		var got []span
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil || r.URL.Path != "/api/v2/spans" {
			t.Errorf("%s: %v", r.URL, err)
		}
		mu.Lock()
		spans = append(spans, got...)
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	})
	s.Apply(t, fmt.Sprintf(`
type: MeshTrace
name: trace
spec:
  default:
    backends: [{type: Zipkin, zipkin: {url: "http://127.0.0.1:%d"}}]
    tags: [{name: team, literal: core}, {name: asked, header: {name: x-asked, default: nobody}}]`, zipkin.Port))
	// find returns spans of these kinds that are in one trace.
	find := func(kinds ...string) []span {
		mu.Lock()
		defer mu.Unlock()
		for _, first := range spans {
			var found []span
			for _, kind := range kinds {
				for _, x := range spans {
					if x.Kind == kind && x.TraceID == first.TraceID {
						found = append(found, x)
						break
					}
				}
			}
			if len(found) == len(kinds) {
				return found
			}
		}
		return nil
	}
	traffic.Until(t, "no span of the server arrives", func() bool {
		// On new connections: tracing is part of listeners.
		traffic.Get(t, s.direct, "Connection", "close")
		return find("SERVER") != nil
	})
	// A service that was not called before, so that both connections are new.
	url := "http://" + s.Service(t, "traced", "http", nil, s.in) + "/"
	var got []span
	traffic.Until(t, "spans of both sides do not arrive", func() bool {
		traffic.Get(t, url, "x-asked", "me")
		got = find("CLIENT", "SERVER")
		return got != nil
	})
	client, server := got[0], got[1]
	for workload, x := range map[string]span{"kri_wl_default_east__client_": client, "kri_wl_default_east__web_": server} {
		for name, want := range map[string]string{
			"team": "core", "asked": "me", "kuma.mesh": "default", "kuma.zone": "east", "kuma.workload": workload, "http.status_code": "200",
		} {
			if got := x.Tags[name]; got != want {
				t.Errorf("%s: tag %s is %q, want %q", x.Kind, name, got, want)
			}
		}
	}
	s.Remove(t, "MeshTrace", "trace")
}
