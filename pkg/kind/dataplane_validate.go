package kind

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

var (
	inboundProtocols = []string{"grpc", "http", "http2", "mysql", "tcp", "tls"}
	backendKinds     = []string{string(MeshExternalService), string(MeshMultiZoneService), string(MeshService)}
	tagName          = regexp.MustCompile(`^[a-zA-Z0-9.\-_:/]+$`)
	tagValue         = regexp.MustCompile(`^[a-zA-Z0-9.\-_:/]*$`)
)

const (
	tagService  = "kuma.io/service"
	tagProtocol = "kuma.io/protocol"
)

func validateDataplane(o *resource.Object) resource.FieldErrors {
	var errs resource.FieldErrors
	n := NetworkingOf(o)
	if n == nil {
		errs.Add("networking", "must be defined")
		return errs
	}
	requireAddress(&errs, "networking.address", n.GetAddress())
	validateAdmin(&errs, n)
	if n.GetGateway() != nil {
		validateGateway(&errs, n)
	}
	for i, in := range n.GetInbound() {
		validateInbound(&errs, fmt.Sprintf("networking.inbound[%d]", i), n, in)
	}
	for i, out := range n.GetOutbound() {
		validateOutbound(&errs, fmt.Sprintf("networking.outbound[%d]", i), out)
	}
	for i, ref := range n.GetTransparentProxying().GetReachableBackends().GetRefs() {
		// The missing letters are the API's: tools look for this path.
		validateReachable(&errs, fmt.Sprintf("networking.transparentProxing.reachableBackends.refs[%d]", i), ref)
	}
	validateListeners(&errs, n)
	return errs
}

// requireAddress accepts what other hosts can connect to: an IP or a DNS name.
func requireAddress(errs *resource.FieldErrors, path, address string) {
	switch {
	case address == "":
		errs.Add(path, "must not be empty")
	case address == "0.0.0.0" || address == "::":
		errs.Add(path, "must not be %s: other hosts cannot connect to it", address)
	case !isIP(address) && !resource.IsDNS1123Subdomain(address):
		errs.Add(path, "must be an IP address or a DNS name")
	}
}

// validateAdmin refuses an admin port that something else of the proxy already
// has on the loopback address, where the admin API listens.
func validateAdmin(errs *resource.FieldErrors, n *Networking) {
	port := n.GetAdmin().GetPort()
	if port == 0 {
		return
	}
	const path = "networking.admin.port"
	transparent := n.GetTransparentProxying().GetRedirectPortInbound() != 0
	for _, in := range n.GetInbound() {
		if in.GetPort() == port && onLoopback(InboundAddress(n, in)) {
			errs.Add(path, "must differ from the port of inbound %q", InboundSection(in))
			return
		}
		if ServicePort(in) == port && onLoopback(ServiceAddress(n, in, transparent)) {
			errs.Add(path, "must differ from the port of the application behind inbound %q", InboundSection(in))
			return
		}
	}
	for _, out := range n.GetOutbound() {
		if out.GetPort() == port && (out.GetAddress() == "" || onLoopback(out.GetAddress())) {
			errs.Add(path, "must differ from the port of an outbound on the same address")
			return
		}
	}
}

// onLoopback tells whether who listens on address takes the port on 127.0.0.1.
func onLoopback(address string) bool {
	return address == "127.0.0.1" || address == "0.0.0.0" || address == "::"
}

func validateGateway(errs *resource.FieldErrors, n *Networking) {
	if len(n.GetInbound()) > 0 {
		errs.Add("networking.inbound", "must be empty: a gateway has no inbounds")
	}
	if len(n.GetListeners()) > 0 {
		errs.Add("networking.listeners", "must be empty: a gateway has no listeners")
	}
	tags := n.GetGateway().GetTags()
	const path = "networking.gateway.tags"
	for _, name := range sortedKeys(tags) {
		key := fmt.Sprintf("%s[%q]", path, name)
		if !tagName.MatchString(name) {
			errs.Add(key, "tag name must consist of letters, digits, '.', '-', '_', ':' and '/'")
		}
		if v := tags[name]; v == "" || !tagValue.MatchString(v) {
			errs.Add(key, "tag value must not be empty and must consist of letters, digits, '.', '-', '_', ':' and '/'")
		}
	}
	own := len(tags)
	if _, ok := tags[resource.LabelZone]; ok {
		own-- // every gateway gets it, so that what was read can be written again
	}
	if _, ok := tags[tagService]; own > 0 && !ok {
		errs.Add(path, "must have %s when there are tags", tagService)
	}
	if p, ok := tags[tagProtocol]; ok && p != "tcp" {
		errs.Add(fmt.Sprintf("%s[%q]", path, tagProtocol), "must be tcp")
	}
}

func validateInbound(errs *resource.FieldErrors, path string, n *Networking, in *DataplaneInbound) {
	requirePort(errs, path+".port", int64(in.GetPort()))
	if in.GetServicePort() != 0 {
		requirePort(errs, path+".servicePort", int64(in.GetServicePort()))
	}
	if a := in.GetServiceAddress(); a != "" {
		switch {
		case !isIP(a):
			errs.Add(path+".serviceAddress", "must be an IP address")
		case (a == InboundAddress(n, in) || a == n.GetAddress()) && ServicePort(in) == in.GetPort():
			errs.Add(path+".serviceAddress", "must differ from the addresses of the inbound and of the proxy, or servicePort from port")
		}
	}
	if a := in.GetAddress(); a != "" && !isIP(a) {
		errs.Add(path+".address", "must be an IP address")
	}
	// Kafka is carried as bytes; tools do not know it, so it is not offered to them.
	if p := in.GetProtocol(); p != "" && p != "kafka" && !slices.Contains(inboundProtocols, p) {
		errs.Add(path+".protocol", "must be one of %s", strings.Join(inboundProtocols, ", "))
	}
	if p := in.GetServiceProbe(); p != nil {
		validateProbe(errs, path+".serviceProbe", p)
	}
}

func validateProbe(errs *resource.FieldErrors, path string, p *mesh_proto.Dataplane_Networking_Inbound_ServiceProbe) {
	duration := func(field string, d *durationpb.Duration) {
		if d != nil && d.AsDuration() <= time.Duration(0) {
			errs.Add(path+"."+field, "must be greater than zero")
		}
	}
	duration("interval", p.GetInterval())
	duration("timeout", p.GetTimeout())
	threshold := func(field string, v *wrapperspb.UInt32Value) {
		if v != nil && v.GetValue() == 0 {
			errs.Add(path+"."+field, "must be greater than zero")
		}
	}
	threshold("unhealthyThreshold", p.GetUnhealthyThreshold())
	threshold("healthyThreshold", p.GetHealthyThreshold())
}

func validateOutbound(errs *resource.FieldErrors, path string, out *DataplaneOutbound) {
	requirePort(errs, path+".port", int64(out.GetPort()))
	if a := out.GetAddress(); a != "" && !isIP(a) {
		errs.Add(path+".address", "must be an IP address")
	}
	ref := out.GetBackendRef()
	path += ".backendRef"
	if ref == nil {
		errs.Add(path, "must be defined")
		return
	}
	if !slices.Contains(backendKinds, ref.GetKind()) {
		errs.Add(path+".kind", "must be one of %s", strings.Join(backendKinds, ", "))
	}
	if ref.GetName() == "" && len(ref.GetLabels()) == 0 {
		errs.Add(path, "must have name or labels")
	}
	if ref.GetKind() != string(MeshExternalService) {
		requirePort(errs, path+".port", int64(ref.GetPort()))
	}
}

func validateReachable(errs *resource.FieldErrors, path string, ref *mesh_proto.Dataplane_Networking_TransparentProxying_ReachableBackendRef) {
	name, namespace, labels := ref.GetName(), ref.GetNamespace(), ref.GetLabels()
	if !slices.Contains(backendKinds, ref.GetKind()) {
		errs.Add(path+".kind", "must be one of %s", strings.Join(backendKinds, ", "))
	}
	if name != "" && !resource.IsDNS1123Subdomain(name) {
		errs.Add(path+".name", "must be a DNS name (RFC 1123): lower case letters, digits, '-' and '.'")
	}
	switch {
	case name == "" && namespace == "" && len(labels) == 0:
		errs.Add(path+".name", "must be set when there are no labels")
	case name == "" && namespace != "":
		errs.Add(path+".name", "must be set when namespace is")
	}
	if len(labels) > 0 && (name != "" || namespace != "") {
		errs.Add(path+".labels", "must not be set together with name or namespace")
	}
	if ref.GetPort() != nil {
		requirePort(errs, path+".port", int64(ref.GetPort().GetValue()))
	}
}

func validateListeners(errs *resource.FieldErrors, n *Networking) {
	type endpoint struct {
		address string
		port    uint32
	}
	names, taken := map[string]bool{}, map[endpoint]bool{}
	for _, in := range n.GetInbound() {
		names[InboundSection(in)] = true
		taken[endpoint{InboundAddress(n, in), in.GetPort()}] = true
	}
	for i, l := range n.GetListeners() {
		path := fmt.Sprintf("networking.listeners[%d]", i)
		if l.GetType() == mesh_proto.Dataplane_Networking_Listener_Unspecified {
			errs.Add(path+".type", "must be ZoneIngress or ZoneEgress")
		}
		requireAddress(errs, path+".address", l.GetAddress())
		requirePort(errs, path+".port", int64(l.GetPort()))
		if names[ListenerSection(l)] {
			errs.Add(path+".name", "%q is the name of another inbound or listener", ListenerSection(l))
		}
		names[ListenerSection(l)] = true
		if e := (endpoint{l.GetAddress(), l.GetPort()}); taken[e] {
			errs.Add(path, "another inbound or listener has the same address and port")
		} else {
			taken[e] = true
		}
	}
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
