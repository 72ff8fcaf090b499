package traffic_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestTwoThousandClusters starts a real Envoy that calls two thousand services.
// It has to be ready in under ten seconds; what is demanded leaves room for a
// machine that does much else.
func TestTwoThousandClusters(t *testing.T) {
	const services, bound = 2000, 30 * time.Second
	m := traffic.Start(t)
	server := traffic.Serve(t, traffic.Named("hello"))
	var docs, outbounds []string
	for i := range services {
		docs = append(docs, fmt.Sprintf(`
type: MeshService
name: s-%d
labels: {app: s-%[1]d}
spec:
  selector: {dataplaneLabels: {matchLabels: {all: "yes"}}}
  ports: [{port: 80, name: main, targetPort: main, appProtocol: http}]`, i))
		outbounds = append(outbounds, fmt.Sprintf("{address: 127.0.53.1, port: %d, backendRef: {kind: MeshService, name: s-%d, port: 80}}", 10000+i, i))
	}
	docs = append(docs, fmt.Sprintf(`
type: Dataplane
name: server
labels: {all: "yes"}
networking: {address: 127.0.0.1, inbound: [{port: %d, name: main, protocol: http}]}`, server.Port), fmt.Sprintf(`
type: Dataplane
name: large
networking:
  address: 127.0.53.1
  inbound: [{port: 9999, name: main, protocol: tcp}]
  outbound: [%s]`, strings.Join(outbounds, ", ")))
	m.Apply(t, strings.Join(docs, "\n---\n"))

	begun := time.Now()
	m.Envoy("large")
	m.Live(t)
	ready := time.Since(begun)
	for _, i := range []int{0, services / 2, services - 1} {
		url := fmt.Sprintf("http://127.0.53.1:%d/", 10000+i)
		traffic.Until(t, url+" does not answer", func() bool {
			r, err := traffic.Try(url)
			return err == nil && r.Body == "hello"
		})
	}
	t.Logf("%d clusters, listeners and routes: everything acknowledged after %s, requests are answered after %s", services, ready, time.Since(begun))
	if ready > bound {
		t.Errorf("it took %s", ready)
	}
	begun = time.Now()
	m.Apply(t, `
type: MeshTimeout
name: one
spec: {to: [{targetRef: {kind: MeshService, labels: {app: s-7}}, default: {connectionTimeout: 3s}}]}`)
	t.Logf("a policy about one of them is acknowledged after %s", time.Since(begun))
}
