package dpserver

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	healthv3 "github.com/envoyproxy/go-control-plane/envoy/service/health/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// What is asked of Envoys unless a probe says otherwise.
const (
	healthTimeout   = 2 * time.Second
	healthInterval  = time.Second
	healthThreshold = 1
	healthOfEnvoy   = "system_envoy_admin"
)

// health has Envoys probe the workloads behind inbounds that ask for it, and
// states in the Dataplane which are ready.
type health struct {
	healthv3.UnimplementedHealthDiscoveryServiceServer
	s *Server
}

// StreamHealthCheck serves one proxy: it is told what to probe, again when that
// changes, and tells what it found.
func (h *health) StreamHealthCheck(gs healthv3.HealthDiscoveryService_StreamHealthCheckServer) error {
	ctx, s := gs.Context(), h.s
	first, err := gs.Recv()
	if err != nil {
		return err
	}
	p, err := parseNode(first.GetHealthCheckRequest().GetNode())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	token, err := tokenOf(ctx)
	if err != nil {
		return err
	}
	sub := s.cfg.View.Subscribe()
	defer sub.Close()
	dp, err := s.await(ctx, p.ID)
	if err != nil {
		return status.Errorf(codes.NotFound, "%s does not exist", p.ID)
	}
	if err := s.authenticate(ctx, token, dp); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	found, failed := make(chan *healthv3.EndpointHealthResponse), make(chan error, 1)
	go func() {
		for {
			m, err := gs.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case found <- m.GetEndpointHealthResponse():
			case <-ctx.Done():
				return
			}
		}
	}()
	var asked *healthv3.HealthCheckSpecifier
	for seen := (*resource.Object)(nil); ; {
		if dp = s.cfg.View.Snapshot().Get(p.ID); dp == nil {
			return status.Errorf(codes.NotFound, "%s is gone", p.ID)
		}
		if dp != seen {
			seen = dp
			if spec := probesOf(&p, dp, s.cfg.HealthReport); !proto.Equal(spec, asked) {
				if err := gs.Send(spec); err != nil {
					return err
				}
				asked = spec
			}
		}
		select {
		case <-sub.C():
		case m := <-found:
			if err := s.setHealth(ctx, p.ID, m); err != nil {
				s.log.Warn("the health of a proxy's workload could not be written", "mesh", p.ID.Mesh, "proxy", p.ID.Name, "error", err)
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// probesOf is what an Envoy is to probe: itself, so that one that drains counts as
// not ready, and each workload with a probe.
func probesOf(p *Proxy, dp *resource.Object, report time.Duration) *healthv3.HealthCheckSpecifier {
	out := &healthv3.HealthCheckSpecifier{Interval: durationpb.New(report)}
	n := kind.NetworkingOf(dp)
	for _, in := range n.GetInbound() {
		probe := in.GetServiceProbe()
		if probe == nil {
			continue
		}
		check := defaultCheck()
		check.HealthChecker = &core.HealthCheck_TcpHealthCheck_{TcpHealthCheck: &core.HealthCheck_TcpHealthCheck{}}
		for _, x := range []struct {
			set  *durationpb.Duration
			into **durationpb.Duration
		}{{probe.GetInterval(), &check.Interval}, {probe.GetTimeout(), &check.Timeout}} {
			if x.set != nil {
				*x.into = x.set
			}
		}
		if v := probe.GetHealthyThreshold(); v != nil {
			check.HealthyThreshold = v
		}
		if v := probe.GetUnhealthyThreshold(); v != nil {
			check.UnhealthyThreshold = v
		}
		redirected := n.GetTransparentProxying() != nil || p.TransparentProxy != nil
		address := kind.ServiceAddress(n, in, redirected)
		c := probeOf(workloadName(in), socket(address, kind.ServicePort(in)), check)
		if ip, err := netip.ParseAddr(address); redirected && err == nil && !ip.IsLoopback() {
			source := "127.0.0.6" // by which redirection knows that it must let this one pass
			if ip.Is6() {
				source = "::6"
			}
			c.UpstreamBindConfig = &core.BindConfig{SourceAddress: socket(source, 0).GetSocketAddress()}
		}
		out.ClusterHealthChecks = append(out.ClusterHealthChecks, c)
	}
	if len(out.ClusterHealthChecks) == 0 {
		return out
	}
	admin := &core.Address{Address: &core.Address_Pipe{Pipe: &core.Pipe{Path: p.AdminSocket}}}
	if p.AdminSocket == "" {
		port := p.AdminPort
		if port == 0 {
			port = n.GetAdmin().GetPort()
		}
		address := p.AdminAddress
		if address == "" {
			address = "127.0.0.1"
		}
		if port == 0 {
			return out // its administration cannot be reached
		}
		admin = socket(address, port)
	}
	check := defaultCheck()
	check.HealthChecker = &core.HealthCheck_HttpHealthCheck_{HttpHealthCheck: &core.HealthCheck_HttpHealthCheck{Path: "/ready", Host: healthOfEnvoy}}
	out.ClusterHealthChecks = append(out.ClusterHealthChecks, probeOf(healthOfEnvoy, admin, check))
	return out
}

func workloadName(in *kind.DataplaneInbound) string {
	return "localhost:" + strconv.Itoa(int(kind.ServicePort(in)))
}

func socket(address string, port uint32) *core.Address {
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: address, PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
	}}}
}

func defaultCheck() *core.HealthCheck {
	return &core.HealthCheck{
		Timeout: durationpb.New(healthTimeout), Interval: durationpb.New(healthInterval), NoTrafficInterval: durationpb.New(healthInterval),
		HealthyThreshold: wrapperspb.UInt32(healthThreshold), UnhealthyThreshold: wrapperspb.UInt32(healthThreshold),
	}
}

func probeOf(name string, at *core.Address, check *core.HealthCheck) *healthv3.ClusterHealthCheck {
	return &healthv3.ClusterHealthCheck{
		ClusterName: name, HealthChecks: []*core.HealthCheck{check},
		LocalityEndpoints: []*healthv3.LocalityEndpoints{{Endpoints: []*endpointv3.Endpoint{{Address: at}}}},
	}
}

// setHealth states what a proxy found. It writes transitions only.
func (s *Server) setHealth(ctx context.Context, id resource.ID, found *healthv3.EndpointHealthResponse) error {
	healthy := map[string]bool{}
	for _, c := range found.GetClusterEndpointsHealth() {
		for _, l := range c.GetLocalityEndpointsHealth() {
			for _, e := range l.GetEndpointsHealth() {
				st := e.GetHealthStatus()
				healthy[c.GetClusterName()] = st == core.HealthStatus_HEALTHY || st == core.HealthStatus_UNKNOWN
			}
		}
	}
	envoy, told := healthy[healthOfEnvoy]
	next := func(dp *resource.Object) *resource.Object {
		spec := resource.SpecOf[meshproto.Dataplane](dp)
		changed := proto.Clone(spec).(*meshproto.Dataplane)
		for _, in := range changed.GetNetworking().GetInbound() {
			ready, known := healthy[workloadName(in)]
			if in.GetServiceProbe() == nil || !known {
				continue
			}
			in.State = meshproto.Dataplane_Networking_Inbound_NotReady
			in.Health = &meshproto.Dataplane_Networking_Inbound_Health{}
			if ready && (envoy || !told) {
				in.State = meshproto.Dataplane_Networking_Inbound_Ready
				in.Health.Ready = true
			}
		}
		if proto.Equal(spec, changed) {
			return nil
		}
		meta := dp.Meta
		meta.Modified = time.Time{}
		o, err := dp.Kind.New(meta, changed, dp.Status)
		if err != nil {
			panic("dpserver: a Dataplane cannot be encoded: " + err.Error())
		}
		return o
	}
	if dp := s.cfg.View.Snapshot().Get(id); dp == nil || next(dp) == nil {
		return nil
	}
	_, err := view.Edit(ctx, s.cfg.View, s.cfg.Store, id, author, func(old *resource.Object) (*resource.Object, error) {
		if old == nil {
			return nil, errGone
		}
		if o := next(old); o != nil {
			return o, nil
		}
		return old, nil
	})
	return err
}

// probed tells whether a Dataplane has an inbound with a probe.
func probed(dp *resource.Object) bool {
	for _, in := range kind.NetworkingOf(dp).GetInbound() {
		if in.GetServiceProbe() != nil {
			return true
		}
	}
	return false
}

// keepHealth has a Dataplane that comes with its proxy again say of probed
// inbounds what was found out about them: the agent does not know.
func keepHealth(sent, old *resource.Object) *resource.Object {
	if old == nil || !probed(sent) {
		return sent
	}
	spec := proto.Clone(resource.SpecOf[meshproto.Dataplane](sent)).(*meshproto.Dataplane)
	for _, in := range spec.GetNetworking().GetInbound() {
		for _, was := range kind.NetworkingOf(old).GetInbound() {
			if in.GetServiceProbe() != nil && was.GetServiceProbe() != nil && kind.InboundSection(in) == kind.InboundSection(was) {
				in.State, in.Health = was.GetState(), was.GetHealth()
			}
		}
	}
	o, err := sent.Kind.New(sent.Meta, spec, sent.Status)
	if err != nil {
		panic(fmt.Sprintf("dpserver: %s cannot be encoded: %v", sent.ID, err))
	}
	return o
}
