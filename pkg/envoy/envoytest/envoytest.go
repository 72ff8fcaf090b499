// Package envoytest lets tests ask a real Envoy.
package envoytest

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Binary is the path of Envoy: $ENVOY, else envoy in $PATH, else the one that
// "make tools" installs. The test fails when there is none.
func Binary(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("ENVOY"); p != "" {
		return p
	}
	if p, err := exec.LookPath("envoy"); err == nil {
		return p
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
			continue
		}
		if p := filepath.Join(dir, "build", "envoy", "envoy"); exec.Command(p, "--version").Run() == nil {
			return p
		}
		break
	}
	t.Fatal("Envoy was not found in $ENVOY, in $PATH or under build/: run make tools")
	return ""
}

// Validate fails the test when Envoy's own validation refuses one of the
// configurations, naming which. Routes that travel by RDS are validated inline,
// endpoints as those of a static cluster.
func Validate(t testing.TB, configs map[string]*ir.Config) {
	t.Helper()
	bin := Binary(t)
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		if err := validate(t, bin, configs[name]); err != nil {
			t.Errorf("%s: Envoy refuses it: %v", name, err)
		}
	}
}

// Accepts asks a binary of Envoy, as Validate asks the usual one, and returns
// what it says when it refuses the configuration. As over ADS, it does not mind
// fields that it does not know.
func Accepts(t testing.TB, bin string, c *ir.Config) error {
	t.Helper()
	return validate(t, bin, c, "--allow-unknown-static-fields")
}

func validate(t testing.TB, bin string, c *ir.Config, flags ...string) error {
	t.Helper()
	b := bootstrap()
	if err := add(b.StaticResources, c); err != nil {
		return err
	}
	js, err := protojson.Marshal(b)
	if err != nil {
		return err
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, js, 0o600); err != nil {
		return err
	}
	out, err := exec.Command(bin, append([]string{"--mode", "validate", "-c", file, "--log-level", "warn"}, flags...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// bootstrap has what resources that come by ADS need to be accepted.
func bootstrap() *bootstrapv3.Bootstrap {
	const ads = "ads"
	return &bootstrapv3.Bootstrap{
		Node: &corev3.Node{Id: "validate", Cluster: "validate"},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: ads},
			}}},
		}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{{Name: ads}}},
	}
}

func add(to *bootstrapv3.Bootstrap_StaticResources, c *ir.Config) error {
	all := envoy.Resources(c)
	for _, r := range sorted(all[xds.Listeners]) {
		l := &listenerv3.Listener{}
		if err := r.Body.UnmarshalTo(l); err != nil {
			return err
		}
		to.Listeners = append(to.Listeners, l)
	}
	for _, r := range sorted(all[xds.Routes]) {
		rc := &routev3.RouteConfiguration{}
		if err := r.Body.UnmarshalTo(rc); err != nil {
			return err
		}
		l, err := inline("route-"+r.Name, rc)
		if err != nil {
			return err
		}
		to.Listeners = append(to.Listeners, l)
	}
	for _, r := range sorted(all[xds.Clusters]) {
		cl := &clusterv3.Cluster{}
		if err := r.Body.UnmarshalTo(cl); err != nil {
			return err
		}
		to.Clusters = append(to.Clusters, cl)
	}
	for _, r := range sorted(all[xds.Endpoints]) {
		cla := &endpointv3.ClusterLoadAssignment{}
		if err := r.Body.UnmarshalTo(cla); err != nil {
			return err
		}
		cla.ClusterName = "load-" + r.Name
		to.Clusters = append(to.Clusters, &clusterv3.Cluster{Name: cla.ClusterName, LoadAssignment: cla})
	}
	for _, r := range sorted(all[xds.Secrets]) {
		s := &tlsv3.Secret{}
		if err := r.Body.UnmarshalTo(s); err != nil {
			return err
		}
		to.Secrets = append(to.Secrets, s)
	}
	return nil
}

func inline(name string, rc *routev3.RouteConfiguration) (*listenerv3.Listener, error) {
	router, err := anypb.New(proto.Message(&hcmv3.HttpConnectionManager{
		StatPrefix:     name,
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: rc},
		HttpFilters:    routerOnly(),
	}))
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       "127.0.0.1",
			PortSpecifier: &corev3.SocketAddress_PortValue{},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: router},
		}}}},
	}, nil
}

func routerOnly() []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{{
		Name: "envoy.filters.http.router",
		ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: &anypb.Any{
			TypeUrl: "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
		}},
	}}
}

func sorted(rs map[string]*delta.Resource) []*delta.Resource {
	return slices.SortedFunc(maps.Values(rs), func(a, b *delta.Resource) int { return strings.Compare(a.Name, b.Name) })
}
