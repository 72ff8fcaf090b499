package envoy

import (
	"encoding/json"
	"errors"
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	jsonpatch "github.com/evanphx/json-patch/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// Patches are applied one by one to a copy; one that fails, or whose result
// breaks the rules that Envoy checks, is left out, and the rest goes on.

// patched applies patches to m. problems tells which were left out and why.
func patched[M proto.Message](m M, patches []*ir.Patch, apply func(M, *ir.Patch) error) (out M, problems []string) {
	for _, p := range patches {
		next := proto.Clone(m).(M)
		err := apply(next, p)
		if err == nil {
			err = check(next)
		}
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s is left out: %v", p.Source, err))
			continue
		}
		m = next
	}
	return m, problems
}

// check holds the constraints that Envoy states in its messages.
func check(m proto.Message) error {
	if v, ok := m.(interface{ ValidateAll() error }); ok {
		return v.ValidateAll()
	}
	return nil
}

func patchedListener(l *ir.Listener) (*listenerv3.Listener, []string) {
	return patched(listener(l), l.Patches, patchListener)
}

func patchedCluster(c *ir.Cluster) (*clusterv3.Cluster, []string) {
	return patched(cluster(c), c.Patches, func(m *clusterv3.Cluster, p *ir.Patch) error { return change(m, p) })
}

func patchedRoutes(c *ir.RouteConfig) (*routev3.RouteConfiguration, []string) {
	return patched(routeConfig(c), c.Patches, patchHosts)
}

// ListenerProblems names the patches of a listener that are left out.
func ListenerProblems(l *ir.Listener) []string {
	if len(l.Patches) == 0 {
		return nil
	}
	_, problems := patchedListener(l)
	return problems
}

// ClusterProblems names the patches of a cluster that are left out.
func ClusterProblems(c *ir.Cluster) []string {
	if len(c.Patches) == 0 {
		return nil
	}
	_, problems := patchedCluster(c)
	return problems
}

// RouteProblems names the patches of routes that are left out.
func RouteProblems(c *ir.RouteConfig) []string {
	if len(c.Patches) == 0 {
		return nil
	}
	_, problems := patchedRoutes(c)
	return problems
}

// AddedProblems names the added resources that are left out.
func AddedProblems(patches []*ir.Patch) []string {
	var problems []string
	for _, p := range patches {
		if _, err := added(p); err != nil {
			problems = append(problems, fmt.Sprintf("%s is left out: %v", p.Source, err))
		}
	}
	return problems
}

// added makes the cluster or listener that a patch adds.
func added(p *ir.Patch) (proto.Message, error) {
	var m proto.Message = &clusterv3.Cluster{}
	if p.Target == ir.PatchListener {
		m = &listenerv3.Listener{}
	}
	if err := parse(p.Value, m); err != nil {
		return nil, err
	}
	if m.(interface{ GetName() string }).GetName() == "" {
		return nil, errors.New("value has no name")
	}
	return m, check(m)
}

func patchListener(l *listenerv3.Listener, p *ir.Patch) error {
	switch p.Target {
	case ir.PatchListener:
		return change(l, p)
	case ir.PatchNetworkFilter:
		return eachChain(l, func(c *listenerv3.FilterChain) (err error) {
			c.Filters, err = patchFilters(c.Filters, p)
			return err
		})
	case ir.PatchHTTPFilter:
		return eachManager(l, func(h *hcmv3.HttpConnectionManager) (err error) {
			h.HttpFilters, err = patchFilters(h.HttpFilters, p)
			return err
		})
	case ir.PatchVirtualHost:
		return eachManager(l, func(h *hcmv3.HttpConnectionManager) error {
			if rc := h.GetRouteConfig(); rc != nil {
				return patchHosts(rc, p)
			}
			return nil
		})
	}
	return nil
}

func eachChain(l *listenerv3.Listener, f func(*listenerv3.FilterChain) error) error {
	for _, c := range l.FilterChains {
		if err := f(c); err != nil {
			return err
		}
	}
	if l.DefaultFilterChain != nil {
		return f(l.DefaultFilterChain)
	}
	return nil
}

func eachManager(l *listenerv3.Listener, f func(*hcmv3.HttpConnectionManager) error) error {
	return eachChain(l, func(c *listenerv3.FilterChain) error {
		for _, x := range c.Filters {
			h := &hcmv3.HttpConnectionManager{}
			if x.GetTypedConfig() == nil || x.GetTypedConfig().MessageName() != h.ProtoReflect().Descriptor().FullName() {
				continue
			}
			if err := x.GetTypedConfig().UnmarshalTo(h); err != nil {
				return err
			}
			if err := f(h); err != nil {
				return err
			}
			if err := check(h); err != nil {
				return err
			}
			x.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(h)}
		}
		return nil
	})
}

// filter is what network and HTTP filters have in common.
type filter interface {
	proto.Message
	GetName() string
	GetTypedConfig() *anypb.Any
}

func patchFilters[F filter](list []F, p *ir.Patch) ([]F, error) {
	matches := func(f F) bool { return p.Name == "" || f.GetName() == p.Name }
	if p.Operation == ir.PatchRemove {
		var out []F
		for _, f := range list {
			if !matches(f) {
				out = append(out, f)
			}
		}
		return out, nil
	}
	if p.Operation == ir.PatchPatch {
		for i, f := range list {
			if matches(f) && f.GetTypedConfig() != nil {
				changed, err := patchFilter(f, p)
				if err != nil {
					return nil, err
				}
				list[i] = changed
			}
		}
		return list, nil
	}
	var zero F
	add := zero.ProtoReflect().New().Interface().(F)
	if err := parse(p.Value, add); err != nil {
		return nil, err
	}
	if err := check(add); err != nil {
		return nil, err
	}
	switch p.Operation {
	case ir.PatchAddFirst:
		return append([]F{add}, list...), nil
	case ir.PatchAddLast:
		// The filter that ends a list stays at the end: nothing may come behind it.
		if n := len(list); n > 0 && terminal[list[n-1].GetName()] {
			return append(list[:n-1:n-1], add, list[n-1]), nil
		}
		return append(list, add), nil
	}
	var out []F
	for _, f := range list {
		if matches(f) && p.Operation == ir.PatchAddBefore {
			out = append(out, add)
		}
		out = append(out, f)
		if matches(f) && p.Operation == ir.PatchAddAfter {
			out = append(out, add)
		}
	}
	return out, nil
}

// terminal are the filters that end a list of filters.
var terminal = map[string]bool{
	"envoy.filters.http.router": true, "envoy.filters.network.http_connection_manager": true, "envoy.filters.network.tcp_proxy": true,
}

// patchFilter changes the typed configuration of a filter.
func patchFilter[F filter](f F, p *ir.Patch) (F, error) {
	config, err := f.GetTypedConfig().UnmarshalNew()
	if err != nil {
		return f, err
	}
	if len(p.JSON) > 0 {
		err = operate(config, p.JSON)
	} else {
		value := f.ProtoReflect().New().Interface().(F)
		if err = parse(p.Value, value); err == nil && value.GetTypedConfig() != nil {
			var with proto.Message
			if with, err = value.GetTypedConfig().UnmarshalNew(); err == nil {
				err = mergeInto(config, with)
			}
		}
	}
	if err == nil {
		err = check(config)
	}
	if err != nil {
		return f, err
	}
	fields := f.ProtoReflect()
	fields.Set(fields.Descriptor().Fields().ByName("typed_config"), valueOf(pack(config)))
	return f, nil
}

func patchHosts(rc *routev3.RouteConfiguration, p *ir.Patch) error {
	if p.Operation == ir.PatchAdd {
		host := &routev3.VirtualHost{}
		if err := parse(p.Value, host); err != nil {
			return err
		}
		rc.VirtualHosts = append(rc.VirtualHosts, host)
		return nil
	}
	var out []*routev3.VirtualHost
	for _, h := range rc.VirtualHosts {
		if p.Name == "" || p.Name == h.GetName() {
			if p.Operation == ir.PatchRemove {
				continue
			}
			if err := change(h, p); err != nil {
				return err
			}
		}
		out = append(out, h)
	}
	rc.VirtualHosts = out
	return nil
}

// change merges a message into m or operates on its JSON.
func change(m proto.Message, p *ir.Patch) error {
	if len(p.JSON) > 0 {
		return operate(m, p.JSON)
	}
	with := m.ProtoReflect().New().Interface()
	if err := parse(p.Value, with); err != nil {
		return err
	}
	return mergeInto(m, with)
}

// parse reads YAML of a message.
func parse(text string, m proto.Message) error {
	js, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return fmt.Errorf("value is not YAML: %w", err)
	}
	if string(js) == "null" {
		return nil
	}
	if err := protojson.Unmarshal(js, m); err != nil {
		return fmt.Errorf("value is not a %s of Envoy: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

// operate applies operations to the JSON of m.
func operate(m proto.Message, operations []ir.JSONOperation) error {
	before, err := protojson.Marshal(m)
	if err != nil {
		return err
	}
	ops, err := json.Marshal(operations)
	if err != nil {
		return err
	}
	patch, err := jsonpatch.DecodePatch(ops)
	if err != nil {
		return err
	}
	opts := jsonpatch.NewApplyOptions()
	opts.SupportNegativeIndices, opts.AllowMissingPathOnRemove, opts.EnsurePathExistsOnAdd = true, true, true
	after, err := patch.ApplyWithOptions(before, opts)
	if err != nil {
		return err
	}
	out := m.ProtoReflect().New().Interface()
	if err := protojson.Unmarshal(after, out); err != nil {
		return fmt.Errorf("the result is not a %s of Envoy: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	proto.Reset(m)
	proto.Merge(m, out)
	return nil
}
