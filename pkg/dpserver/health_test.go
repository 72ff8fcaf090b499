package dpserver

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/agent"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
)

// TestProbedWorkload has a real Envoy probe a workload that comes and goes.
func TestProbedWorkload(t *testing.T) {
	const address = "127.0.0.6"
	app := port32(t, "127.0.0.1")
	text := fmt.Sprintf(`{"type":"Dataplane","mesh":"shop","name":"cart-1","labels":{"app":"cart"},"networking":{"address":%q,"admin":{"port":%d},
		"inbound":[{"port":%d,"servicePort":%d,"protocol":"tcp","name":"api","serviceProbe":{"interval":"0.1s","timeout":"1s","tcp":{}}},
		{"port":%d,"servicePort":1,"protocol":"tcp","name":"other"}]}}`,
		address, port32(t, address), port32(t, address), app, port32(t, address))
	cert, key := newCertificate(t, true, "127.0.0.1")
	zone := serve(t, memory.Open(), "cp-1", "127.0.0.1:0", cert, key)
	zone.put(`{"type":"Mesh","name":"shop"}`)
	zone.put(`{"type":"MeshService","mesh":"shop","name":"cart","spec":{
		"selector":{"dataplaneLabels":{"matchLabels":{"app":"cart"}}},"ports":[{"port":80,"targetPort":"api","appProtocol":"tcp"}]}}`)

	c := agent.Defaults()
	c.ControlPlane.Address, c.ControlPlane.CAFile = "https://"+zone.address, cert
	c.Dataplane, c.Token = text, "a.cart.c"
	c.WorkDir = filepath.Join(t.TempDir(), "work")
	c.ReadinessPort = port32(t, address)
	c.Envoy.Binary, c.Envoy.Concurrency, c.Envoy.LogLevel = envoyBinary(t), 1, "warning"
	c.Log = slog.New(slog.DiscardHandler)
	log, err := os.Create(filepath.Join(t.TempDir(), "envoy.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx, c, make(chan os.Signal), agent.Streams{Out: log, Err: log}) }()
	defer func() {
		cancel()
		<-ended
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s", b)
		}
	}()
	ready := func(i int) func() bool {
		return func() bool {
			o := zone.get(kind.Dataplane, "shop", "cart-1")
			return o != nil && kind.InboundReady(kind.NetworkingOf(o).GetInbound()[i])
		}
	}
	zone.until("registered", func() bool { return zone.get(kind.Dataplane, "shop", "cart-1") != nil })
	if ready(0)() || !ready(1)() {
		t.Errorf("before the first probe: %s", zone.get(kind.Dataplane, "shop", "cart-1").JSON())
	}
	for range 2 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", app))
		if err != nil {
			t.Fatal(err)
		}
		zone.until("ready with its workload", ready(0))
		l.Close()
		zone.until("not ready without its workload", func() bool { return !ready(0)() })
	}
	if !ready(1)() {
		t.Error("an inbound without a probe is not ready")
	}
}

// TestHealthIsKept has a Dataplane that comes again be as ready as it was.
func TestHealthIsKept(t *testing.T) {
	z := newZone(t, nil)
	with := func(port, more string) *resource.Object {
		return z.put(`{"type":"Dataplane","mesh":"shop","name":"a","networking":{"address":"192.0.2.1","inbound":[{"port":` + port + `,"name":"api","serviceProbe":{"tcp":{}}` + more + `}]}}`)
	}
	old := with("8080", "")
	sent := with("8081", `,"state":"Ready"`)
	if got := keepHealth(sent, old); kind.InboundReady(kind.NetworkingOf(got).GetInbound()[0]) {
		t.Errorf("ready without a probe: %s", got.JSON())
	}
	if got := keepHealth(sent, nil); got != sent {
		t.Errorf("without one before: %s", got.JSON())
	}
}
