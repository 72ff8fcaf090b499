package control

import (
	"log/slog"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// labelIdentity marks the Secrets of a CA that was made for a MeshIdentity with
// that one's name. They go when it does.
const labelIdentity = "atoll.mesh/mesh-identity"

// outsideInterval is how often a CA that is in a file is looked at again: files
// do not tell when they change.
const outsideInterval = 30 * time.Second

// identities makes CAs for MeshIdentities, keeps a MeshTrust for each CA, and
// states in conditions whether proxies get certificates.
type identities struct {
	site    resource.Site
	log     *slog.Logger
	outside map[resource.ID]bool      // have a CA in a file
	leaving map[resource.ID]time.Time // have an old CA, which may go then
}

func (j *identities) plan(p *pass) {
	if p.full || j.outside == nil {
		j.outside, j.leaving = map[resource.ID]bool{}, map[resource.ID]time.Time{}
	}
	due := map[resource.ID]bool{}
	meshes := map[string]bool{}
	for id := range p.touched(kind.MeshIdentity) {
		due[id] = true
		meshes[id.Mesh] = true
	}
	for _, t := range []resource.Type{kind.MeshTrust, kind.Secret} {
		for id := range p.touched(t) {
			for o := range p.now.List(kind.MeshIdentity, id.Mesh) {
				due[o.ID] = true
			}
			meshes[id.Mesh] = true
		}
	}
	for id := range j.outside {
		due[id] = true
	}
	for id, at := range j.leaving {
		due[id] = due[id] || !at.After(p.time)
	}
	for id, is := range due {
		if !is {
			continue
		}
		delete(j.outside, id)
		delete(j.leaving, id)
		if o := p.get(id); o != nil {
			j.reconcile(p, o)
		}
	}
	for mesh := range meshes {
		j.collect(p, mesh)
	}
	if len(j.outside) > 0 {
		p.at(p.time.Add(outsideInterval))
	}
	for _, at := range j.leaving {
		p.at(at)
	}
}

// collect removes the CAs of identities that are gone.
func (j *identities) collect(p *pass, mesh string) {
	for o := range p.now.List(kind.Secret, mesh) {
		owner := resource.ID{Type: kind.MeshIdentity, Mesh: mesh, Name: o.Labels[labelIdentity]}
		if owner.Name != "" && p.get(owner) == nil {
			p.remove(o.ID)
		}
	}
}

func (j *identities) reconcile(p *pass, o *resource.Object) {
	provider := resource.SpecOf[kind.MeshIdentitySpec](o).Provider
	var c conditions
	switch {
	case provider == nil:
		c.set(kind.ConditionSpiffeIDProvider, true, "SpiffeIDProvided", "SPIFFE IDs are published; there is no provider, so that no certificates are issued")
		c.set(kind.ConditionReady, false, "PartiallyReady", "there is no provider: set spec.provider to have certificates issued")
	case provider.Type == kind.ProviderSpire:
		c.initialized()
		c.ready()
	case provider.Type == kind.ProviderBundled && provider.Bundled != nil:
		j.bundled(p, o, provider.Bundled, &c)
	default:
		c.failed(kind.ConditionProvider, "ProviderInitializationError", "this control plane has no such provider: set spec.provider.type to Bundled or Spire")
	}
	status := kind.MeshIdentityStatus{Conditions: c}
	p.put(changedObject(o, o.Labels, o.Spec, &status))
}

func (j *identities) bundled(p *pass, o *resource.Object, b *kind.BundledProvider, c *conditions) {
	domain, err := identity.TrustDomainOf(j.site, o)
	if err != nil {
		c.failed(kind.ConditionProvider, "ProviderInitializationError", err.Error())
		return
	}
	if b.Autogenerates() && b.InsecureAllowSelfSigned {
		j.makeCA(p, o, domain)
	}
	if identity.Outside(o) {
		j.outside[o.ID] = true
	}
	ca, err := identity.CAOf(o, p.get)
	if err != nil {
		// What was issued stays valid, and what comes back is found by itself.
		if wasReady(o) {
			c.set(kind.ConditionProvider, false, "ProviderValidationError", err.Error())
			c.set(kind.ConditionReady, true, "CAUnavailable", "proxies keep the certificates that they have, and get no new ones: "+err.Error())
			return
		}
		c.failed(kind.ConditionProvider, "ProviderValidationError", err.Error())
		return
	}
	c.initialized()
	if b.CreatesTrust() {
		if err := j.trust(p, o, domain, ca, b); err != nil {
			c.failed(kind.ConditionMeshTrustCreated, "MeshTrustCreationError", err.Error())
			return
		}
		c.set(kind.ConditionMeshTrustCreated, true, "MeshTrustCreated", "MeshTrust has been successfully created")
	}
	c.ready()
}

// wasReady tells whether proxies were given certificates. Then they go on to ask
// for those of others: that a CA cannot be read makes nobody talk in the clear.
func wasReady(o *resource.Object) bool {
	status := resource.StatusOf[kind.MeshIdentityStatus](o)
	return status != nil && slices.ContainsFunc(status.Conditions, func(c kind.Condition) bool {
		return c.Type == kind.ConditionReady && c.Status == "True"
	})
}

// makeCA makes a CA where there is none. Half of one is of no use and is
// replaced.
func (j *identities) makeCA(p *pass, o *resource.Object, domain string) {
	certificate, key := identity.CASecrets(o)
	if p.get(certificate) != nil && p.get(key) != nil {
		return
	}
	pair, err := identity.NewCA(domain, p.time)
	if err != nil {
		j.log.Error("a CA could not be made; it is tried again when something changes", "identity", o.ID, "error", err)
		return
	}
	secret := func(id resource.ID, data []byte) *resource.Object {
		k := p.kind(kind.Secret)
		labels := j.site.ComputeLabels(k, id.Name, id.Mesh, map[string]string{labelIdentity: o.Name})
		return newObject(k, resource.Meta{ID: id, Labels: labels}, &system_proto.Secret{Data: wrapperspb.Bytes(data)}, nil)
	}
	p.putAll([]*resource.Object{secret(certificate, pair.Certificate), secret(key, pair.Key)})
}

// trust sees to it that the MeshTrust of an identity has its CA. Earlier ones
// stay while proxies may still have certificates of them.
func (j *identities) trust(p *pass, o *resource.Object, domain string, ca *identity.CA, b *kind.BundledProvider) error {
	id := resource.ID{Type: kind.MeshTrust, Mesh: o.Mesh, Name: o.Name}
	old := p.get(id)
	if old == nil {
		k := p.kind(kind.MeshTrust)
		old = newObject(k, resource.Meta{ID: id, Labels: j.site.ComputeLabels(k, id.Name, id.Mesh, nil)},
			&kind.MeshTrustSpec{TrustDomain: domain}, &kind.MeshTrustStatus{Origin: &kind.TrustOrigin{KRI: o.KRI().String()}})
	}
	trust, next, err := j.anchors(p, o, old, ca, b)
	if err != nil {
		return err
	}
	if !next.IsZero() {
		j.leaving[o.ID] = next
	}
	p.put(trust)
	return nil
}

// conditions of a MeshIdentity, in the order in which they came about.
type conditions []kind.Condition

func (c *conditions) set(typ string, ok bool, reason, message string) {
	status := "False"
	if ok {
		status = "True"
	}
	*c = append(*c, kind.Condition{Type: typ, Status: status, Reason: reason, Message: message})
}

func (c *conditions) initialized() {
	c.set(kind.ConditionProvider, true, "ProviderInitialized", "Provider successfully initialized")
}

func (c *conditions) ready() {
	c.set(kind.ConditionReady, true, "Ready", "Successfully initialized")
}

// failed states why there are no certificates.
func (c *conditions) failed(typ, reason, message string) {
	c.set(typ, false, reason, message)
	c.set(kind.ConditionReady, false, "Failure", message)
}
