package compile

import (
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

const entrances = `type: MeshZoneAddress
mesh: default
name: west
labels: {kuma.io/origin: global, kuma.io/zone: west}
spec: {address: 10.2.0.1, port: 10001}
---
type: MeshZoneAddress
mesh: default
name: west-6
labels: {kuma.io/origin: global, kuma.io/zone: west}
spec: {address: "2001:db8::1", port: 10001}
---
type: MeshZoneAddress
mesh: default
name: north
labels: {kuma.io/origin: global, kuma.io/zone: north}
spec: {address: north.example, port: 10001}
---
type: MeshZoneAddress
mesh: default
name: own
spec: {address: 10.1.0.1, port: 10001}
---
type: Dataplane
mesh: default
name: zp
labels: {kuma.io/workload: zp}
networking:
  address: 192.0.2.20
  listeners: [{type: ZoneIngress, address: 192.0.2.20, port: 10001, name: in}]
---
type: Dataplane
mesh: default
name: side
labels: {kuma.io/workload: side}
networking: {address: 192.0.2.21, inbound: [{port: 8080}]}
---
type: MeshAccessLog
mesh: default
name: all
spec: {rules: [{default: {backends: [{type: File, file: {path: /dev/stdout}}]}}]}`

func prober(name string) ProxyInfo {
	info := dataplane(name)
	info.Features = append(info.Features, FeatureZoneProbes)
	info.Workdir = "/run/" + name
	return info
}

// asks is the part of a proxy's configuration that asks other zones.
func (w *world) asks(info ProxyInfo) (targets string, clusters []*ir.Cluster) {
	w.t.Helper()
	res, err := Build(w.e.in, w.view.Snapshot(), info)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range res.Own.Listeners {
		if l.Name == probeName && l.Socket != ProbeSocket(info.Workdir) {
			w.t.Errorf("listens on %q", l.Socket)
		}
	}
	for _, r := range res.Own.Routes {
		if r.Name == probeName {
			targets = r.Routes[0].Direct.Body
		}
	}
	for _, c := range res.Own.Clusters {
		if strings.HasPrefix(c.Name, probeName) {
			clusters = append(clusters, c)
		}
	}
	return targets, clusters
}

// A zone proxy asks every address of other zones, each time by a new connection
// with its identity; so does another proxy that was elected, and nobody else.
func TestProbing(t *testing.T) {
	w := newWorld(t)
	w.apply(entrances)
	if targets, _ := w.asks(prober("zp")); targets != "" {
		t.Errorf("without identity: %s", targets)
	}
	w.identify("24h", w.ca("default.east.mesh.local"))
	const want = `[{"zone":"west","address":"10.2.0.1","port":10001,"path":"/west/10.2.0.1:10001"},` +
		`{"zone":"west","address":"2001:db8::1","port":10001,"path":"/west/[2001:db8::1]:10001"}]`
	targets, clusters := w.asks(prober("zp"))
	if targets != want || len(clusters) != 2 {
		t.Fatalf("asks %s by %d clusters, want %s", targets, len(clusters), want)
	}
	c := clusters[0]
	if c.TLS == nil || c.TLS.ServerName != probeSNI || c.TLS.Certificate.Name == "" || c.HTTP.MaxRequests != 1 || *c.ConnectTimeout != probeTimeout {
		t.Errorf("cluster %+v, TLS %+v", c, c.TLS)
	}
	if targets, _ := w.asks(dataplane("zp")); targets != "" {
		t.Errorf("an agent that cannot: %s", targets)
	}

	side := w.attach(prober("side"))
	w.e.step()
	has := func() bool { return side.Set().Source(xds.Listeners).Get(probeName) != nil }
	if has() {
		t.Error("nobody asked this proxy")
	}
	k := w.kinds.ByType(kind.ZoneProbe)
	row, err := k.New(resource.Meta{ID: resource.ID{Type: k.Type, Mesh: "default", Name: "side"}, Created: epoch}, &kind.ZoneProbeSpec{Elected: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.put(row)
	w.e.step()
	w.check()
	if !has() {
		t.Error("it was elected")
	}
	w.remove(row.ID)
	w.e.step()
	w.check()
	if has() {
		t.Error("it is not elected any more")
	}
}

// An ingress with an identity answers probes with the name of its zone, whatever
// else leads there, and no policy is for that.
func TestIngressAnswersProbes(t *testing.T) {
	w := newWorld(t)
	w.apply(entrances)
	ingress := func() *ir.Listener {
		res, err := Build(w.e.in, w.view.Snapshot(), prober("zp"))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range res.Shared.Listeners {
			if l.Name == "self_zoneingress_dp_in" {
				for _, r := range res.Shared.Routes {
					if body := r.Routes[0].Direct.Body; body != ProbeAnswer("east") {
						t.Errorf("answers %q", body)
					}
				}
				return l
			}
		}
		return nil
	}
	if l := ingress(); l != nil {
		t.Errorf("without identity and services: %+v", l)
	}
	w.identify("24h", w.ca("default.east.mesh.local"))
	l := ingress()
	if l == nil || len(l.Chains) != 1 {
		t.Fatalf("listener %+v", l)
	}
	c := l.Chains[0]
	if c.TLS == nil || len(c.TLS.ClientPrefixes) == 0 || c.Match.ServerNames[0] != probeSNI || c.HTTP == nil || len(c.HTTP.Logs) > 0 {
		t.Errorf("chain %+v", c)
	}
}
