package compile

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
)

// exit is how an egress calls what is outside the mesh.
type exit struct {
	cluster *ir.Cluster
	byName  bool // its endpoints have names
}

// exit reads a MeshExternalService. Nil without error: nothing is known about
// where it is.
func (x *resolver) exit(d *topology.Destination, cluster, systemCA string) (*exit, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o := x.r.Get(d.ID)
	if o == nil {
		return nil, nil
	}
	spec := resource.SpecOf[kind.MeshExternalServiceSpec](o)
	list := slices.SortedFunc(slices.Values(spec.Endpoints), comparePriorities)
	if spec.Extension != nil || len(list) == 0 {
		return nil, nil
	}
	e := &exit{cluster: &ir.Cluster{
		Name: cluster, Type: ir.Static, Protocol: d.Ports[0].Protocol, ConnectTimeout: new(connectTimeout),
	}}
	for _, p := range list {
		if !isIP(p.Address) {
			e.cluster.Type, e.byName = ir.StrictDNS, true
		}
		place := "priority-" + strconv.Itoa(int(priority(p)))
		n := len(e.cluster.Localities)
		if n == 0 || e.cluster.Localities[n-1].SubZone != place {
			// Envoy wants priorities without gaps.
			e.cluster.Localities = append(e.cluster.Localities, ir.Locality{SubZone: place, Priority: uint32(n)})
			n++
		}
		l := &e.cluster.Localities[n-1]
		l.Endpoints = append(l.Endpoints, ir.Endpoint{Address: p.Address, Port: uint32(p.Port), Weight: 1})
	}
	if t := spec.TLS; t != nil && t.Enabled {
		var err error
		if e.cluster.External, err = x.externalTLS(d.ID.Mesh, t, spec.Endpoints, systemCA); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (x *resolver) externalTLS(mesh string, t *kind.ExternalTLS, endpoints []kind.ExternalEndpoint, systemCA string) (*ir.ExternalTLS, error) {
	out := &ir.ExternalTLS{Renegotiate: t.AllowRenegotiation}
	if v := t.Version; v != nil {
		out.MinVersion, out.MaxVersion = version(v.Min), version(v.Max)
	}
	v := t.Verification
	if v == nil {
		v = &kind.ExternalVerification{}
	}
	out.ServerName = v.ServerName
	for _, e := range endpoints {
		if out.ServerName == "" && !isIP(e.Address) {
			out.ServerName = e.Address
		}
	}
	var caErr, certErr, keyErr error
	if v.Mode != "SkipCA" && v.Mode != "SkipAll" {
		if out.CA, caErr = x.secret(mesh, "caCert", v.CACert); v.CACert == nil {
			if out.CAFile = systemCA; systemCA == "" {
				caErr = errors.New("tls.verification.caCert is not set, and the proxy does not say where its system keeps CAs")
			}
		}
		if v.Mode != "SkipSAN" {
			out.Names = names(v, out.ServerName, endpoints)
		}
	}
	if v.Mode != "SkipAll" {
		var key string
		out.Cert, certErr = x.secret(mesh, "clientCert", v.ClientCert)
		key, keyErr = x.secret(mesh, "clientKey", v.ClientKey)
		out.Key = ir.Sensitive(key)
	}
	return out, errors.Join(caErr, certErr, keyErr)
}

func version(v string) string {
	if v == "TLSAuto" {
		return ""
	}
	return v
}

// names are those of which the other side must prove one: the one it is called
// by, without that the addresses, and those that are allowed besides.
func names(v *kind.ExternalVerification, serverName string, endpoints []kind.ExternalEndpoint) []ir.ValueMatch {
	var out []ir.ValueMatch
	add := func(how, value string) {
		m := ir.ValueMatch{Kind: how, Value: value}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	if serverName != "" {
		add(ir.MatchExact, serverName)
	} else {
		for _, e := range endpoints {
			add(ir.MatchExact, e.Address)
		}
	}
	for _, s := range v.SubjectAltNames {
		if s.Type == "Prefix" {
			add(ir.MatchPrefix, s.Value)
		} else {
			add(ir.MatchExact, s.Value)
		}
	}
	return out
}

// withExits gives a MeshExternalService the identities of the egresses through
// which it is called; without a MeshIdentity they have none.
func (x *resolver) withExits(d *topology.Destination) *topology.Destination {
	if d == nil || len(d.Exits) == 0 {
		return d
	}
	if x.identities == nil {
		x.identities = identity.NewMesh(x.site, x.r, x.mesh)
	}
	with := *d
	for _, id := range d.Exits {
		dp := x.r.Get(id)
		if dp == nil {
			continue
		}
		if i := x.identities.Of(&dp.Meta); i != nil && i.Published {
			if id, err := i.SpiffeID(&dp.Meta); err == nil {
				with.Identities = append(with.Identities, id)
			}
		}
	}
	slices.Sort(with.Identities)
	with.Identities = slices.Compact(with.Identities)
	return &with
}

// secret reads what a resource refers to.
func (x *resolver) secret(mesh, field string, s *kind.SecureDataSource) (string, error) {
	switch {
	case s == nil:
		return "", nil
	case s.Type == kind.SourceInsecureInline && s.InsecureInline != nil:
		return s.InsecureInline.Value, nil
	case s.Type == kind.SourceSecret && s.SecretRef != nil:
		o := x.r.Get(resource.ID{Type: kind.Secret, Mesh: mesh, Name: s.SecretRef.Name})
		if o == nil {
			return "", fmt.Errorf("tls.verification.%s: there is no Secret %q in mesh %s", field, s.SecretRef.Name, mesh)
		}
		return string(resource.SpecOf[systemv1.Secret](o).GetData().GetValue()), nil
	}
	return "", fmt.Errorf("tls.verification.%s: a proxy cannot be given what is read from %s; use a Secret", field, s.Type)
}
