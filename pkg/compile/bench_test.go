package compile

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// The sizes of the benchmarks: 1,000 proxies in 100 services, all of which each
// proxy reaches through virtual addresses.
const (
	benchServices = 100
	benchReplicas = 10
)

func benchProxy(service, replica int) string {
	return fmt.Sprintf("type: Dataplane\nmesh: default\nname: s%d-%d\nlabels: {kuma.io/workload: s%d, version: v1}\n"+
		"networking:\n  address: 10.%d.%d.%d\n  inbound: [{port: 8080, name: http, protocol: http}]\n",
		service, replica, service, service/250, service%250, replica+1)
}

func benchWorld(b *testing.B) *world { return benchWorldOf(b, benchServices, benchReplicas) }

func benchWorldOf(b *testing.B, services, replicas int) *world {
	w := newWorld(b)
	var objects []*resource.Object
	for s := range services {
		objects = append(objects, w.decode(fmt.Sprintf("type: MeshService\nmesh: default\nname: s%d\n"+
			"spec:\n  selector: {dataplaneLabels: {matchLabels: {kuma.io/workload: s%d}}}\n  ports: [{port: 80, name: http, targetPort: http, appProtocol: http}]\n"+
			"status: {vips: [{ip: 241.0.%d.%d}]}\n", s, s, s/250, s%250+1)))
		for r := range replicas {
			objects = append(objects, w.decode(benchProxy(s, r)))
		}
	}
	w.put(objects...)
	w.put(w.decode(timeouts(5)))
	return w
}

func timeouts(seconds int) string {
	return fmt.Sprintf("type: MeshTimeout\nmesh: default\nname: all\nspec: {to: [{targetRef: {kind: Mesh}, default: {connectionTimeout: %ds, http: {requestTimeout: %ds}}}]}\n", seconds, seconds)
}

func timeoutsOfOne(seconds int) string {
	return fmt.Sprintf("type: MeshTimeout\nmesh: default\nname: one\nspec: {to: [{targetRef: {kind: MeshService, labels: {kuma.io/display-name: s7}}, default: {connectionTimeout: %ds}}]}\n", seconds)
}

func (w *world) attachAll() (proxies []*Proxy) { return w.attachAllOf(benchServices, benchReplicas) }

func (w *world) attachAllOf(services, replicas int) (proxies []*Proxy) {
	for s := range services {
		for r := range replicas {
			i := dataplane(fmt.Sprintf("s%d-%d", s, r))
			i.TransparentProxy = &TransparentProxy{InboundPort: 15006, OutboundPort: 15001, IPv4Only: true}
			i.ReadinessPort, i.AdminPort = 9902, 9901
			proxies = append(proxies, w.e.Attach(i))
		}
	}
	return proxies
}

func want(b *testing.B, proxies []*Proxy) {
	for _, p := range proxies {
		if p.Set() == nil {
			b.Fatalf("%s is served nothing", p.info.ID)
		}
	}
}

// BenchmarkAttach1000 attaches 1,000 proxies at once, the first of which has the
// audience compiled.
func BenchmarkAttach1000(b *testing.B) {
	w := benchWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		w.e = New(Config{View: w.view, Policies: w.e.in.Policies, Log: w.e.log})
		proxies := w.attachAll()
		w.e.step()
		want(b, proxies)
	}
}

// BenchmarkAttachOne attaches and detaches one more proxy of an audience of 999.
func BenchmarkAttachOne(b *testing.B) {
	w := benchWorld(b)
	proxies := w.attachAll()
	w.e.step()
	info := proxies[0].info
	proxies[0].Detach()
	w.e.step()
	b.ReportAllocs()
	for b.Loop() {
		p := w.e.Attach(info)
		w.e.step()
		want(b, []*Proxy{p})
		p.Detach()
		w.e.step()
	}
}

// BenchmarkPolicyChange changes the timeouts of all clusters of 1,000 proxies.
func BenchmarkPolicyChange(b *testing.B) {
	w := benchWorld(b)
	want(b, w.attachedAll())
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		w.put(w.decode(timeouts(6 + n%2)))
		w.e.step()
	}
	if s := w.e.Stats(); s.ClustersCompiled < uint64(n*benchServices) {
		b.Fatalf("clusters were not compiled: %+v", s)
	}
}

// BenchmarkPolicyOnOne changes the timeouts of one service for 1,000 proxies.
func BenchmarkPolicyOnOne(b *testing.B) {
	w := benchWorld(b)
	want(b, w.attachedAll())
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		w.put(w.decode(timeoutsOfOne(6 + n%2)))
		w.e.step()
	}
}

// BenchmarkEndpointChange adds or removes one proxy of a service, for all 1,000.
func BenchmarkEndpointChange(b *testing.B) {
	w := benchWorld(b)
	want(b, w.attachedAll())
	extra := w.decode(benchProxy(7, benchReplicas))
	n := 0
	before := w.e.Stats()
	b.ReportAllocs()
	for b.Loop() {
		if n++; n%2 == 1 {
			w.put(extra)
		} else {
			w.remove(resource.ID{Type: kind.Dataplane, Mesh: "default", Name: extra.Name})
		}
		w.e.step()
	}
	after := w.e.Stats()
	if after.EndpointsCompiled-before.EndpointsCompiled != uint64(n) || after.ClustersCompiled != before.ClustersCompiled {
		b.Fatalf("more was compiled than one port's endpoints: %+v", after)
	}
}

func (w *world) attachedAll() []*Proxy {
	proxies := w.attachAll()
	w.e.step()
	return proxies
}

// BenchmarkServices changes an endpoint of one service, and a policy on one, for
// 1,000 proxies that reach 10, 100 or 1,000 services. The time of the processors
// counts: it should not follow from services that a change does not concern.
func BenchmarkServices(b *testing.B) {
	for _, services := range []int{10, 100, 1000} {
		replicas := 1000 / services
		w := benchWorldOf(b, services, replicas)
		proxies := w.attachAllOf(services, replicas)
		w.e.step()
		want(b, proxies)
		extra := w.decode(benchProxy(7, replicas))
		for _, c := range []struct {
			what   string
			change func(n int)
		}{
			{"endpoint", func(n int) {
				if n%2 == 1 {
					w.put(extra)
				} else {
					w.remove(extra.ID)
				}
			}},
			{"policy", func(n int) { w.put(w.decode(timeoutsOfOne(6 + n%2))) }},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.what, services), func(b *testing.B) {
				n := 0
				b.ReportAllocs()
				before := cpu(b)
				for b.Loop() {
					n++
					c.change(n)
					w.e.step()
				}
				b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(n), "cpu-µs/op")
			})
		}
	}
}

// cpu is the time of the processors that the test has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
