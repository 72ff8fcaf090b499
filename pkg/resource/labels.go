package resource

import (
	"maps"
	"strings"
)

// Labels that the control plane reads or writes.
const (
	LabelDisplayName    = "kuma.io/display-name"
	LabelMesh           = "kuma.io/mesh"
	LabelZone           = "kuma.io/zone"
	LabelEnv            = "kuma.io/env"
	LabelOrigin         = "kuma.io/origin"
	LabelNamespace      = "k8s.kuma.io/namespace"
	LabelPolicyRole     = "kuma.io/policy-role"
	LabelEffect         = "kuma.io/effect"
	LabelKDSSync        = "kuma.io/kds-sync"
	LabelManagedBy      = "kuma.io/managed-by"
	LabelService        = "kuma.io/service"
	LabelWorkload       = "kuma.io/workload"
	LabelServiceAccount = "k8s.kuma.io/service-account"
	LabelProxyType      = "kuma.io/proxy-type"
	LabelZoneIngress    = "kuma.io/listener-zoneingress"
	LabelZoneEgress     = "kuma.io/listener-zoneegress"
	// LabelDraining is "true" on a Dataplane whose agent is about to stop: nobody
	// is sent there any more.
	LabelDraining = "atoll.mesh/draining"
	// LabelGraceStarted marks a generated MeshService without proxies; RFC 3339.
	LabelGraceStarted = "kuma.io/deletion-grace-period-started-at"
)

// Values of LabelOrigin: where a resource was created, as the reader sees it.
const (
	OriginGlobal = "global"
	OriginZone   = "zone"
)

// Values of LabelEnv.
const (
	EnvUniversal  = "universal"
	EnvKubernetes = "kubernetes"
)

// Site says which control plane computes labels.
type Site struct {
	Global    bool   // mode global
	Federated bool   // a zone that has a global
	Zone      string // name of the zone; empty on a global
	Env       string // EnvUniversal or EnvKubernetes
}

// Origin is the value of LabelOrigin for resources written here.
func (s Site) Origin() string {
	if s.Global {
		return OriginGlobal
	}
	return OriginZone
}

// LocallyOriginated tells whether a resource with these labels was created in
// this control plane and not received from another one.
func (s Site) LocallyOriginated(labels map[string]string) bool {
	o := labels[LabelOrigin]
	return o == "" || o == s.Origin()
}

// ComputeLabels returns the labels that a resource written by a user or by this
// control plane is stored with: the given ones plus those that the API derives.
// The argument is not modified. Resources received from another control plane
// keep the labels they came with and must not pass here.
func (s Site) ComputeLabels(k *Kind, name, mesh string, given map[string]string) map[string]string {
	l := make(map[string]string, len(given)+5)
	maps.Copy(l, given)
	setDefault := func(key, value string) {
		if l[key] == "" {
			l[key] = value
		}
	}
	l[LabelDisplayName] = name
	if k.Scope == ScopeMesh {
		setDefault(LabelMesh, mesh)
	}
	l[LabelOrigin] = s.Origin()
	if !s.Global && k.Flows.Has(ZoneToGlobal) {
		setDefault(LabelZone, s.Zone)
		setDefault(LabelEnv, s.Env)
	}
	return l
}

// Admit returns o as it is stored when a user, an agent or this control plane
// writes it: with the labels that the API computes and with what its kind
// derives. Old is the stored resource, nil when o is new; its status remains
// unless o brings one. Like ComputeLabels it is not for resources received from
// another control plane.
func (s Site) Admit(o, old *Object) (*Object, error) {
	meta, spec, status := o.Meta, o.Spec, o.Status
	if status == nil && old != nil {
		status = old.Status
	}
	if o.Kind.Admit != nil {
		meta.Labels, spec = o.Kind.Admit(s, o, old)
	}
	meta.Labels = s.ComputeLabels(o.Kind, o.Name, o.Mesh, meta.Labels)
	return o.Kind.New(meta, spec, status)
}

// MatchLabels reports whether labels contain every pair of the selector.
// An empty selector matches everything.
func MatchLabels(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Matches is MatchLabels on a resource. The display name is compared even when
// the label is missing, with the resource's own name.
func (m *Meta) Matches(selector map[string]string) bool {
	for k, v := range selector {
		if k == LabelDisplayName {
			if m.DisplayName() != v {
				return false
			}
			continue
		}
		if got, ok := m.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// LabelPath is the field path of a label in error messages: labels["key"].
func LabelPath(key string) string {
	var b strings.Builder
	b.WriteString(`labels["`)
	b.WriteString(key)
	b.WriteString(`"]`)
	return b.String()
}
