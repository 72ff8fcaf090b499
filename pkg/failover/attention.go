package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// usualEjection is Envoy's max_ejection_percent where nothing is set.
const usualEjection = 10

// attention looks whether the Envoys of clients in the zone of e notice by
// themselves that endpoints fail, and whether requests that meet one have a
// second chance: that bridges the time until control planes know.
func (l *losing) attention(e *eye, usable []candidate) {
	for _, id := range l.joined(usable) {
		for _, p := range portsOf(e, id) {
			for _, client := range e.clients[l.mesh] {
				b := l.balance(e, lossKey{}, client)
				if c := b.Calling(id, p); c != nil && slices.Contains(c.Backends, compile.Backend{ID: id, Section: p}) {
					l.ejection(e, b, c, id, p)
					l.retries(e, b, c, id, p)
				}
			}
		}
	}
}

// chosen is the policy of a type that decides how a port is called. A gap that
// comes of there being none is not told of files: the policies that control
// planes give a new mesh are not in them.
func (l *losing) chosen(b *compile.Balance, t resource.Type, id resource.ID, port string) (about string, told bool) {
	if o := b.Policy(t, id, port); o != nil {
		return o.KRI().String(), true
	}
	return l.kriOf(id), !l.Files
}

func (l *losing) ejection(e *eye, b *compile.Balance, c *compile.Calling, id resource.ID, port string) {
	about, told := l.chosen(b, "MeshCircuitBreaker", id, port)
	if !told {
		return
	}
	o := c.Cluster.Outliers
	if o == nil {
		l.r.add(l.gap(NotEjected, Warning, about,
			"outlier detection is off: Envoy goes on trying endpoints that fail until the control plane takes them out",
			"set outlierDetection in a MeshCircuitBreaker for the service, with the detector localOriginFailures"), e.zone)
		return
	}
	percent := uint32(usualEjection)
	if o.MaxEjectionPercent != nil {
		percent = *o.MaxEjectionPercent
	}
	all := len(targets(b.Load(id, port)))
	gone := 0
	for _, t := range targets(b.Load(id, port)) {
		if t.Zone == l.zone {
			gone++
		}
	}
	if can := all * int(percent) / 100; can < gone {
		l.r.add(l.gap(NotEjected, Warning, about,
			fmt.Sprintf("outlier detection may leave out %d of %d endpoints (maxEjectionPercent: %d), and %d would be lost: Envoy goes on trying the rest of them", can, all, percent, gone),
			"raise maxEjectionPercent of the outlierDetection, for instance to 100; healthyPanicThreshold guards against leaving out all"), e.zone)
	}
}

func (l *losing) retries(e *eye, b *compile.Balance, c *compile.Calling, id resource.ID, port string) {
	if c.Routes == nil {
		return // connections are tried again until one is there
	}
	for _, r := range c.Routes.Routes {
		f := r.Forward
		if f == nil {
			continue
		}
		if f.Retry == nil {
			if about, told := l.chosen(b, "MeshRetry", id, port); told {
				l.r.add(l.gap(NoRetry, Warning, about,
					"requests are not tried again: those that meet an endpoint that is lost fail until Envoy leaves it out",
					"set http.numRetries in a MeshRetry for the service"), e.zone)
			}
			continue
		}
		l.inVain(e, b, c, f, id, port)
	}
}

// inVain looks for retries that come too late, or for other failures.
func (l *losing) inVain(e *eye, b *compile.Balance, c *compile.Calling, f *ir.Forward, id resource.ID, port string) {
	retry, _ := l.chosen(b, "MeshRetry", id, port)
	timeout, _ := l.chosen(b, "MeshTimeout", id, port)
	if !covers(f.Retry) {
		l.r.add(l.gap(NoRetry, Warning, retry,
			"requests are tried again, but not when an endpoint cannot be reached",
			"add ConnectFailure and RefusedStream, or 5xx, to http.retryOn (to grpc.retryOn: Unavailable)"), e.zone)
	}
	whole := lasting(f.Timeout)
	if whole == 0 {
		return // there is time for any number of tries
	}
	if try := lasting(f.Retry.PerTryTimeout); try >= whole {
		l.r.add(l.gap(NoRetry, Warning, retry,
			fmt.Sprintf("a try may take %v and the whole request %v: no time is left for another try", try, whole),
			"make http.perTryTimeout of the MeshRetry shorter than http.requestTimeout of the MeshTimeout"), e.zone)
	}
	if connect := lasting(c.Cluster.ConnectTimeout); connect >= whole {
		l.r.add(l.gap(NoRetry, Warning, timeout,
			fmt.Sprintf("connecting may take %v and the whole request %v: no time is left to try another endpoint", connect, whole),
			"make connectionTimeout of the MeshTimeout shorter than http.requestTimeout"), e.zone)
	}
}

func lasting(d *time.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return *d
}

// covers tells whether a request is tried again whose endpoint cannot be reached.
func covers(r *ir.Retry) bool {
	for _, on := range []string{"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure"} {
		if slices.Contains(r.On, on) {
			return true
		}
	}
	// For gRPC, Envoy states a connection that fails as this status.
	return slices.Contains(r.On, "unavailable")
}

// routed looks for routes that take requests for the joined service to what only
// the lost zone serves.
func (l *losing) routed(usable []candidate) {
	for _, id := range l.joined(usable) {
		for _, z := range l.zones {
			e := l.eyes[z]
			if e == nil {
				continue
			}
			for _, p := range portsOf(e, id) {
				for _, client := range e.clients[l.mesh] {
					l.routedOf(e, client, id, p)
				}
			}
		}
	}
}

func (l *losing) routedOf(e *eye, client *resource.Object, id resource.ID, port string) {
	before, after := l.balance(e, lossKey{}, client), l.balance(e, e.loss(l.zone, l.mesh), client)
	c := before.Calling(id, port)
	if c == nil {
		return
	}
	route := resource.Type("MeshHTTPRoute")
	if c.Routes == nil {
		route = "MeshTCPRoute"
	}
	for _, to := range c.Backends {
		if to.ID == id || len(targets(before.Load(to.ID, to.Section))) == 0 || len(targets(after.Load(to.ID, to.Section))) > 0 {
			continue
		}
		about, _ := l.chosen(before, route, id, port)
		l.r.add(l.gap(RoutedAway, Error, about,
			"a route takes requests for the service to "+l.kriOf(to.ID)+", which only the lost zone serves",
			"name a MeshMultiZoneService in backendRefs of the route"), e.zone)
	}
}
