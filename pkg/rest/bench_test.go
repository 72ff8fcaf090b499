package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// discard is a response that is thrown away.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

func benchmarkGet(b *testing.B, path string) {
	w := newWorld(b, standalone)
	var rows []*resource.Object
	for i := range 1000 {
		name := fmt.Sprintf("web-%04d", i)
		rows = append(rows,
			w.object(kind.Dataplane, "default", name, dataplaneBody(name, map[string]string{"app": "web", "version": "1"})),
			w.object(kind.DataplaneInsight, "default", name, `{"subscriptions":[{"id":"a","connectTime":"2026-01-02T03:04:05Z",
				"status":{"total":{"responsesSent":"12"},"cds":{"responsesSent":"3"}},"version":{"kumaDp":{"version":"1"},"envoy":{"version":"1.40.0"}}}]}`))
	}
	w.write(rows...)
	req := httptest.NewRequest("GET", "http://localhost"+path, nil)
	req.RemoteAddr = "127.0.0.1:1"
	b.ReportAllocs()
	for b.Loop() {
		w.handler.ServeHTTP(&discard{http.Header{}}, req)
	}
}

// The lists are to take less than 5 ms, the get less than 0.5 ms.
func BenchmarkListOverviews(b *testing.B) {
	benchmarkGet(b, "/meshes/default/dataplanes/_overview?size=1000")
}
func BenchmarkListFiltered(b *testing.B) {
	benchmarkGet(b, "/dataplanes?size=1000&filter[labels.app]=web&name=web")
}
func BenchmarkGet(b *testing.B) { benchmarkGet(b, "/meshes/default/dataplanes/web-0500") }
