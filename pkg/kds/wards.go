package kds

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// fromGlobal is how a zone treats what its global sends.
type fromGlobal struct{ guard *guard }

// owns: everything that did not originate in the zone. A Mesh that was made here
// before there was a global stays until the global has one of that name.
func (f *fromGlobal) owns(o *resource.Object) bool {
	if o.Type == kind.Config {
		return o.Name == kind.ClusterID && o.Labels[resource.LabelOrigin] == resource.OriginGlobal
	}
	return o.Labels[resource.LabelOrigin] == resource.OriginGlobal
}

// replaces: kinds that only a global may write, and the cluster id.
func (f *fromGlobal) replaces(o *resource.Object) bool {
	if o.Type == kind.Config {
		return o.Name == kind.ClusterID
	}
	return o.Kind.Flows.Has(resource.GlobalToZone) && !o.Kind.Flows.Has(resource.ZoneToGlobal) && !o.Kind.AdminOnly
}

func (f *fromGlobal) accept(p *parcel) error {
	if p.kind.Type == kind.Config && p.name != kind.ClusterID {
		return fmt.Errorf("a zone takes no Config but %s from its global", kind.ClusterID)
	}
	// What comes from the global can never pass for the zone's own.
	p.labels[resource.LabelOrigin] = resource.OriginGlobal
	return nil
}

func (f *fromGlobal) admits(*resource.Object) error      { return nil }
func (f *fromGlobal) wireName(o *resource.Object) string { return o.Name }
func (f *fromGlobal) mayDelete() error                   { return f.guard.mayDelete() }
func (f *fromGlobal) keepsStatus() bool                  { return true }
func (f *fromGlobal) applying(rev uint64) []store.Op     { return f.guard.remember(rev) }
func (f *fromGlobal) author() string                     { return "kds:global" }

func (f *fromGlobal) arrived(o *resource.Object) {
	if o.Type != kind.Config || o.Name != kind.ClusterID {
		return
	}
	if c, ok := o.Spec.(*systemv1.Config); ok {
		f.guard.met(c.GetConfig(), 0)
	}
}

// fromZone is how a global treats what a zone sends. The name that the zone
// authenticated with decides what is whose; nothing in a resource does.
type fromZone struct {
	zone string
	// prefix is put before names by zones that do not make them unique. Empty:
	// the zone does.
	prefix string
	// admit is GlobalConfig.Admit.
	admit func(zone string, o *resource.Object) error
}

func (f *fromZone) owns(o *resource.Object) bool {
	return o.Labels[resource.LabelOrigin] == resource.OriginZone && o.Zone() == f.zone
}

func (f *fromZone) replaces(*resource.Object) bool { return false }

func (f *fromZone) accept(p *parcel) error {
	p.name = f.prefix + p.name
	p.labels[resource.LabelOrigin] = resource.OriginZone
	p.labels[resource.LabelZone] = f.zone
	if p.kind.Type == kind.Dataplane && len(p.spec) > 0 {
		return f.gatewayTag(p)
	}
	return nil
}

func (f *fromZone) admits(o *resource.Object) error {
	if f.admit == nil {
		return nil
	}
	return f.admit(f.zone, o)
}

// gatewayTag makes a gateway's own statement about its zone true.
func (f *fromZone) gatewayTag(p *parcel) error {
	var dp meshv1.Dataplane
	if err := proto.Unmarshal(p.spec, &dp); err != nil {
		return fmt.Errorf("spec cannot be decoded: %w", err)
	}
	tags := dp.GetNetworking().GetGateway().GetTags()
	if said, ok := tags[resource.LabelZone]; !ok || said == f.zone {
		return nil
	}
	tags[resource.LabelZone] = f.zone
	var err error
	p.spec, err = proto.MarshalOptions{Deterministic: true}.Marshal(&dp)
	return err
}

func (f *fromZone) wireName(o *resource.Object) string { return strings.TrimPrefix(o.Name, f.prefix) }
func (f *fromZone) mayDelete() error                   { return nil }
func (f *fromZone) keepsStatus() bool                  { return false }
func (f *fromZone) applying(uint64) []store.Op         { return nil }
func (f *fromZone) arrived(*resource.Object)           {}
func (f *fromZone) author() string                     { return "kds:zone:" + f.zone }
