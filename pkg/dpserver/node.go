package dpserver

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Keys of node metadata. They are flat: the dots are part of the key.
const (
	keyVersion          = "version"
	keyFeatures         = "features"
	keyWorkdir          = "workdir"
	keyMetricsCert      = "metricsCertPath"
	keyMetricsKey       = "metricsKeyPath"
	keySystemCA         = "systemCaPath"
	keyIPv6             = "ipv6Enabled"
	keySpireSocket      = "spireAgent.socketPath"
	keyResource         = "dataplane.resource"
	keyAdminPort        = "dataplane.admin.port"
	keyAdminAddress     = "dataplane.admin.address"
	keyAdminSocket      = "dataplane.admin.socketPath"
	keyDNSPort          = "dataplane.dns.port"
	keyReadinessPort    = "dataplane.readinessReporter.port"
	keyAppProbeProxy    = "dataplane.appProbeProxy.enabled"
	keyProxyType        = "dataplane.proxyType"
	keyDynamicMetadata  = "dynamicMetadata"
	keyTransparentProxy = "transparentProxy"
	keyOtelEnv          = "otelEnvInventory"

	// keyBrought is in insights only.
	keyBrought = "dataplane.brought"
)

// proxyTypeDataplane is the only type of proxy there is.
const proxyTypeDataplane = "dataplane"

// Proxy is a connected proxy: its name and what it said about itself.
type Proxy struct {
	compile.ProxyInfo
	Node    *core.Node // until the proxy is admitted
	Version *meshproto.Version
}

// parseNode reads the identity and the metadata of a stream's first request.
func parseNode(n *core.Node) (Proxy, error) {
	mesh, name, ok := strings.Cut(n.GetId(), ".")
	if !ok || mesh == "" || name == "" {
		return Proxy{}, fmt.Errorf("node id %q: must be <mesh>.<name of the Dataplane>", n.GetId())
	}
	f := n.GetMetadata().GetFields()
	if t := f[keyProxyType].GetStringValue(); t != "" && t != proxyTypeDataplane {
		return Proxy{}, fmt.Errorf("node metadata %s: %q is not supported; only %q is", keyProxyType, t, proxyTypeDataplane)
	}
	p := Proxy{
		ProxyInfo: compile.ProxyInfo{
			ID:           resource.ID{Type: kind.Dataplane, Mesh: mesh, Name: name},
			Workdir:      f[keyWorkdir].GetStringValue(),
			SpireSocket:  f[keySpireSocket].GetStringValue(),
			AdminAddress: f[keyAdminAddress].GetStringValue(),
			AdminSocket:  f[keyAdminSocket].GetStringValue(),
			IPv6:         boolean(f[keyIPv6]),
			MetricsCert:  f[keyMetricsCert].GetStringValue(),
			MetricsKey:   f[keyMetricsKey].GetStringValue(),
			SystemCA:     f[keySystemCA].GetStringValue(),
			OTLPEnv:      compile.OTLPEnvOf(f[keyOtelEnv].GetStructValue()),
			NodeAddress:  f[keyDynamicMetadata].GetStructValue().GetFields()["HOST_IP"].GetStringValue(),
		},
		Node:    n,
		Version: version(f[keyVersion].GetStructValue()),
	}
	var errs []error
	for _, x := range []struct {
		key  string
		into *uint32
	}{{keyAdminPort, &p.AdminPort}, {keyReadinessPort, &p.ReadinessPort}, {keyDNSPort, &p.DNSPort}} {
		v, err := port(f[x.key])
		if err != nil {
			errs = append(errs, fmt.Errorf("node metadata %s: %w", x.key, err))
		}
		*x.into = v
	}
	for _, v := range f[keyFeatures].GetListValue().GetValues() {
		p.Features = append(p.Features, v.GetStringValue())
	}
	if s := f[keyTransparentProxy].GetStructValue(); s != nil {
		p.TransparentProxy = redirection(s)
	}
	for key, v := range f[keyDynamicMetadata].GetStructValue().GetFields() {
		if name, ok := strings.CutPrefix(key, "version.dependencies."); ok {
			if p.Version.Dependencies == nil {
				p.Version.Dependencies = map[string]string{}
			}
			p.Version.Dependencies[name] = v.GetStringValue()
		}
	}
	return p, errors.Join(errs...)
}

// boolean reads a boolean that old agents write as a string.
func boolean(v *structpb.Value) bool { return v.GetBoolValue() || v.GetStringValue() == "true" }

// port reads a port number, which is usually written as a string.
func port(v *structpb.Value) (uint32, error) {
	switch k := v.GetKind().(type) {
	case *structpb.Value_NumberValue:
		return uint32(k.NumberValue), nil
	case *structpb.Value_StringValue:
		if k.StringValue == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(k.StringValue, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a port number", k.StringValue)
		}
		return uint32(n), nil
	}
	return 0, nil
}

// redirection reads the agent's transparent proxy: nil when it states none.
func redirection(s *structpb.Struct) *compile.TransparentProxy {
	f := s.GetFields()
	r := f["redirect"].GetStructValue().GetFields()
	enabled := func(key string, standard uint32) uint32 {
		one := r[key].GetStructValue().GetFields()
		if !boolean(one["enabled"]) {
			return 0
		}
		if n, err := port(one["port"]); err == nil && n != 0 {
			return n
		}
		return standard
	}
	return &compile.TransparentProxy{
		InboundPort:  enabled("inbound", compile.DefaultInboundPort),
		OutboundPort: enabled("outbound", compile.DefaultOutboundPort),
		IPv4Only:     f["ipFamilyMode"].GetStringValue() == "ipv4",
	}
}

// version reads the versions of agent and Envoy; what cannot be read is left out.
func version(s *structpb.Struct) *meshproto.Version {
	v := &meshproto.Version{}
	if s == nil {
		return v
	}
	b, err := protojson.Marshal(s)
	if err != nil {
		return v
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(b, v); err != nil {
		return &meshproto.Version{}
	}
	return v
}

// insightMetadata is the node metadata as insights show it. Instead of the
// Dataplane, which is a resource of its own, it says that the proxy brought it.
func insightMetadata(n *core.Node) *structpb.Struct {
	m := n.GetMetadata()
	if m == nil {
		return nil
	}
	m = kind.WithStarting(kind.WithRejections(m, nil), false) // those are not the agent's to state
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(m.Fields))}
	for k, v := range m.Fields {
		if k == keyResource {
			out.Fields[keyBrought] = structpb.NewBoolValue(true)
			continue
		}
		out.Fields[k] = v
	}
	return out
}
