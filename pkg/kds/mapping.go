package kds

import (
	"fmt"
	"log/slog"
	"maps"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// entry is one resource ready to be sent, and what decides who gets it. It is
// shared by all streams of its outbox.
type entry struct {
	id  resource.ID
	res *delta.Resource
	// zone is where the resource was created, empty for this control plane's own.
	// It is not echoed there, and not sent at all while that zone is disabled.
	zone string
	// feature is what the peer must understand; empty: nothing special.
	feature string
}

// mapping turns a stored resource into an entry, nil if it is not sent.
type mapping func(o *resource.Object) (*entry, error)

// shape is everything about a zone that changes the bytes it gets.
type shape struct {
	hash  bool // names carry hash suffixes
	atoll bool // keys of dataplane tokens go out as public halves
}

// globalSecretsKept never leave the global.
var globalSecretsKept = map[string]bool{
	"envoy-admin-ca": true, kind.AdminUserToken: true, "inter-cp-ca": true, "user-token-revocations": true,
}

// toZone maps what a global sends to zones of one shape.
func toZone(s shape, skipLabels []string, log *slog.Logger) mapping {
	return func(o *resource.Object) (*entry, error) {
		e := &entry{id: o.ID, feature: featureFor(o.Kind)}
		if o.Labels[resource.LabelKDSSync] == "disabled" {
			return nil, nil
		}
		if o.Type == kind.Config && o.Name != kind.ClusterID {
			return nil, nil
		}
		if o.Labels[resource.LabelOrigin] == resource.OriginZone {
			if o.Type == kind.ZoneLink && !aboutItself(o) {
				return nil, nil
			}
			if !o.Kind.Flows.Has(resource.AcrossZones) {
				return nil, nil
			}
			if o.Kind.Policy != nil {
				if !isProducer(o) {
					return nil, nil
				}
				e.feature = featureProducerFlow
			}
			e.zone = o.Zone()
		} else if !o.Kind.Flows.Has(resource.GlobalToZone) {
			return nil, nil
		}
		if o.Type == kind.HostnameGenerator && selectsMultiZone(o) {
			e.feature = featureMultiZoneHostnames
		}
		p := &parcel{kind: o.Kind, name: o.Name, mesh: o.Mesh, labels: keepLabels(o.Labels, skipLabels), spec: o.SpecWire()}
		p.labels[resource.LabelOrigin] = resource.OriginGlobal
		if o.Type == kind.Secret || o.Type == kind.GlobalSecret {
			send, err := withoutPrivateKeys(p, s)
			if err != nil {
				log.Warn("a signing key stays here because its public half cannot be made", "resource", o.ID.String(), "error", err)
			}
			if !send || err != nil {
				return nil, nil
			}
		}
		if s.hash && !o.Kind.KeepName {
			rename(p)
		}
		var err error
		e.res, err = p.encode()
		return e, err
	}
}

// toGlobal maps what a zone sends to its global.
func toGlobal(zone string, skipLabels []string) mapping {
	return func(o *resource.Object) (*entry, error) {
		origin := o.Labels[resource.LabelOrigin]
		if o.Labels[resource.LabelKDSSync] == "disabled" || origin != "" && origin != resource.OriginZone {
			return nil, nil
		}
		p := &parcel{kind: o.Kind, name: o.Name, mesh: o.Mesh, labels: keepLabels(o.Labels, skipLabels), spec: o.SpecWire(), status: o.StatusWire()}
		p.labels[resource.LabelOrigin] = resource.OriginZone
		p.labels[resource.LabelZone] = zone
		delete(p.labels, resource.LabelGraceStarted)
		if i, ok := o.Spec.(*meshv1.DataplaneInsight); ok {
			spec, err := withoutGenerations(i)
			if err != nil {
				return nil, err
			}
			p.spec = spec
		}
		rename(p)
		res, err := p.encode()
		return &entry{id: o.ID, res: res, feature: featureFor(o.Kind)}, err
	}
}

// featureFor is what a peer must understand to be sent resources of a kind.
func featureFor(k *resource.Kind) string {
	if k.Native {
		return featureAtoll
	}
	return ""
}

// aboutItself tells whether a ZoneLink is what a zone says of itself, which all
// others hear. What it says of others is for the global only: every zone judges
// by what it sees. That the zone is who it says is not believed but known.
func aboutItself(o *resource.Object) bool {
	link := resource.SpecOf[kind.ZoneLinkSpec](o)
	return link.Observed == link.Observer && link.Observer == o.Zone()
}

func keepLabels(labels map[string]string, skip []string) map[string]string {
	kept := make(map[string]string, len(labels)+2)
	maps.Copy(kept, labels)
	for _, prefix := range skip {
		if prefix != "" {
			maps.DeleteFunc(kept, func(k, _ string) bool { return strings.HasPrefix(k, prefix) })
		}
	}
	return kept
}

// rename gives a parcel the name it has in every other control plane.
func rename(p *parcel) {
	if p.labels[resource.LabelDisplayName] == "" {
		p.labels[resource.LabelDisplayName] = p.name
	}
	m := resource.Meta{ID: p.id(), Labels: p.labels}
	p.name = m.SyncedName()
}

// withoutPrivateKeys decides which secrets leave the global, and replaces
// private keys by their public halves: those of zone tokens for every zone,
// those of dataplane tokens for zones that can work with them.
func withoutPrivateKeys(p *parcel, s shape) (send bool, err error) {
	var keys auth.Keys
	if p.mesh == "" {
		if globalSecretsKept[p.name] || strings.HasPrefix(p.name, auth.UserKeys().Prefix) {
			return false, nil
		}
		keys = auth.ZoneKeys()
	} else {
		if !s.atoll {
			return true, nil
		}
		keys = auth.DataplaneKeys(p.mesh)
	}
	if !strings.HasPrefix(p.name, keys.Prefix) {
		return true, nil
	}
	public, ok := keys.PublicName(p.name)
	if !ok {
		return false, fmt.Errorf("its name does not end in a number")
	}
	var secret systemv1.Secret
	if err := proto.Unmarshal(p.spec, &secret); err != nil {
		return false, err
	}
	half, err := auth.PublicKey(secret.GetData().GetValue())
	if err != nil {
		return false, err
	}
	p.name = public
	if p.labels[resource.LabelDisplayName] != "" {
		p.labels[resource.LabelDisplayName] = public
	}
	p.spec, err = proto.MarshalOptions{Deterministic: true}.Marshal(&systemv1.Secret{Data: wrapperspb.Bytes(half)})
	return true, err
}

// withoutGenerations encodes an insight without the counters that say only that
// somebody still writes it.
func withoutGenerations(i *meshv1.DataplaneInsight) ([]byte, error) {
	c := proto.CloneOf(i)
	for _, s := range c.GetSubscriptions() {
		s.Generation = 0
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(c)
}
