package compile

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/atoll-mesh/atoll/pkg/envoy"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/topology"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Names of secrets and of what they come from.
const (
	trustName      = "system_trust_bundle"
	spireCluster   = "system_identity_sds-spire-agent"
	spireAllTrust  = "ALL" // what a SPIRE agent calls its bundles
	spireSocket    = "/tmp/spire-agent/public/api.sock"
	proxyToProxy   = "kuma" // the application protocol of connections between proxies
	trustDomainURI = "spiffe://"
)

// secured is how a proxy proves who it is and checks others. It follows from
// resources alone: whether the certificate itself is there does not count, so
// that no proxy ever talks in the clear because a CA is away for a moment.
type secured struct {
	identity *identity.Identity
	spiffeID string
	mutual
}

// mutual is the part of it that proxies with the same identity share.
type mutual struct {
	Certificate ir.SecretRef `json:"certificate"`
	Trust       ir.SecretRef `json:"trust"`
	// Clients are prefixes of the SPIFFE IDs that may connect.
	Clients []string `json:"clients,omitempty"`
	// Params are those that the proxy has as a client.
	Params ir.TLSParams `json:"params,omitzero"`
}

// secure tells which identity a Dataplane has; nil: none.
func secure(ids *identity.Mesh, dp *resource.Object, warn *warnings) *secured {
	i := ids.Of(&dp.Meta)
	if i == nil || !i.Ready {
		return nil
	}
	id, err := i.SpiffeID(&dp.Meta)
	if err != nil {
		warn.add(i.KRI, "gives the Dataplane no identity: %s", err.Error())
		return nil
	}
	s := &secured{identity: i, spiffeID: id}
	if i.Spire {
		s.Certificate = ir.SecretRef{Name: id, Cluster: spireCluster}
		s.Trust = ir.SecretRef{Name: spireAllTrust, Cluster: spireCluster}
		return s
	}
	s.Certificate, s.Trust = ir.SecretRef{Name: i.KRI}, ir.SecretRef{Name: trustName}
	for _, d := range ids.Trust {
		s.Clients = append(s.Clients, trustDomainURI+d.Name+"/")
	}
	return s
}

// downstream is what listeners of the proxy ask of their clients.
func (m *mutual) downstream() *ir.DownstreamTLS {
	return &ir.DownstreamTLS{Certificate: m.Certificate, Trust: m.Trust, ClientPrefixes: m.Clients}
}

// inboundTLS is downstream for inbounds, nil without an identity.
func (s *secured) inboundTLS() *ir.DownstreamTLS {
	if s == nil {
		return nil
	}
	return s.downstream()
}

// toward is how a port of a destination is called; nil: in the clear. It depends
// on who belongs to the destination and never on who of them is there.
func (m *mutual) toward(d *topology.Destination, section string) *ir.UpstreamTLS {
	if m == nil || d == nil {
		return nil
	}
	switch d.ID.Type {
	case kind.MeshService:
		if !d.TLSReady && d.Local {
			return nil
		}
	case kind.MeshExternalService:
		if len(d.Identities) == 0 { // of the egresses
			return nil
		}
	}
	name, ok := d.KRI.WithSection(section).SNI()
	if !ok {
		return nil
	}
	return &ir.UpstreamTLS{
		ServerName: name, ALPN: []string{proxyToProxy},
		Certificate: m.Certificate, Trust: m.Trust,
		ServerIDs: d.Identities, Params: m.Params,
	}
}

// audienceTLS is what of it tells audiences apart. Which clients may connect
// matters to the listeners of zone proxies alone. It is that of a, if it is equal.
func (s *secured) audienceTLS(params ir.TLSParams, gates bool, a *audience) (*mutual, digest) {
	if s == nil {
		return nil, digest{}
	}
	m := s.mutual
	m.Params = params
	if !gates {
		m.Clients = nil
	}
	if a != nil && a.client.equal(&m) {
		return a.client, a.key.tls
	}
	return &m, digestOf(&m)
}

func (m *mutual) equal(n *mutual) bool {
	return m != nil && m.Certificate == n.Certificate && m.Trust == n.Trust && slices.Equal(m.Clients, n.Clients) &&
		m.Params.MinVersion == n.Params.MinVersion && m.Params.MaxVersion == n.Params.MaxVersion &&
		slices.Equal(m.Params.Ciphers, n.Params.Ciphers)
}

// served is the TLS of the listeners of a zone proxy.
func (m *mutual) served() *ir.DownstreamTLS {
	if m == nil {
		return nil
	}
	return m.downstream()
}

func digestOf(v any) digest {
	b, err := json.Marshal(v)
	if err != nil {
		panic("what was made here cannot be encoded: " + err.Error())
	}
	return xxh3.Hash128(b).Bytes()
}

// secrets adds what every proxy of the mesh is given, the bundle of whom to
// trust, and how to get at a SPIRE agent. Certificates have a layer of their
// own, so that a new one touches nothing else.
func (o *own) secrets(c *ir.Config) {
	spire := o.secured != nil && o.secured.identity.Spire
	switch {
	case spire:
		socket := o.info.SpireSocket
		if socket == "" {
			socket = spireSocket
		}
		c.Clusters = append(c.Clusters, &ir.Cluster{
			Name: spireCluster, Type: ir.Static, Protocol: ir.HTTP2,
			ConnectTimeout: new(o.secured.identity.Timeout), Socket: socket,
		})
	case len(o.trust) > 0:
		s := &ir.Secret{Name: trustName}
		for _, d := range o.trust {
			s.Trust = append(s.Trust, ir.TrustDomain{Name: d.Name, CAs: string(d.CAs)})
		}
		c.Secrets = append(c.Secrets, s)
	}
}

// certificate is what a proxy was issued, and when it gets the next.
type certificate struct {
	leaf     *identity.Leaf
	name     string // of the secret
	validity time.Duration
	renew    time.Time
	failures int // in a row
}

const (
	// overlap is how long a CA is known to be trusted before certificates that
	// are still valid are replaced by its own, so that every proxy has heard of it.
	overlap = 10 * time.Second
	// retryMin and retryMax bound the pauses after a certificate that could not
	// be issued.
	retryMin = 5 * time.Second
	retryMax = 5 * time.Minute
)

// jitter spreads what many proxies would do at the same moment.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// renewAfter is two thirds of the life of a certificate, or a little less.
func renewAfter(life time.Duration) time.Duration { return life*2/3 - jitter(life/15) }

// certified returns the certificate that a proxy shall have now, which is the one
// that it has unless it is time for another. trusted tells since when the CA of
// the identity is trusted.
func certified(ids *identity.Mesh, s *secured, has *certificate, dp *resource.Object, trusted map[[32]byte]time.Time, now time.Time, warn *warnings) *certificate {
	if s == nil || s.identity.Spire {
		return nil
	}
	i := s.identity
	fits := has != nil && has.leaf != nil && has.name == s.Certificate.Name && has.leaf.SpiffeID == s.spiffeID && has.validity == i.Validity
	valid := fits && now.Before(has.leaf.NotAfter)
	if fits && now.Before(has.renew) {
		ca, err := i.CA()
		if err != nil || ca.Fingerprint == has.leaf.CA {
			return has
		}
		since, ok := trusted[ca.Fingerprint]
		if due := since.Add(overlap); !ok || due.After(has.renew) || has.failures > 0 {
			return has
		} else if now.Before(due) {
			next := *has
			next.renew = due.Add(jitter(i.Validity / 30))
			if !next.renew.Before(has.renew) {
				return has
			}
			return &next
		}
	}
	if ca, err := i.CA(); err == nil && valid && ca.Fingerprint != has.leaf.CA && has.leaf.NotAfter.Sub(now) > i.Validity/6 {
		if _, ok := trusted[ca.Fingerprint]; !ok { // as long as there is time, wait until it is
			next := *has
			next.renew = now.Add(i.Validity / 12)
			return &next
		}
	}
	if has != nil && has.failures > 0 && has.name == s.Certificate.Name && now.Before(has.renew) {
		return has // it could not be issued a moment ago
	}
	leaf, err := ids.Issue(i, &dp.Meta, now)
	if err == nil {
		life := leaf.NotAfter.Sub(now)
		return &certificate{leaf: leaf, name: s.Certificate.Name, validity: i.Validity, renew: now.Add(renewAfter(life))}
	}
	warn.add(i.KRI, "no certificate could be issued, and it is tried again: %s", err.Error())
	next := &certificate{name: s.Certificate.Name, validity: i.Validity}
	if valid {
		next.leaf = has.leaf
	}
	if has != nil && has.name == next.name {
		next.failures = has.failures
	}
	pause := min(retryMin<<min(next.failures, 10), retryMax)
	next.failures++
	next.renew = now.Add(pause/2 + jitter(pause/2))
	return next
}

// changes are the secret for Envoy, none without a certificate.
func (c *certificate) changes() xds.Changes {
	out := xds.Changes{}
	if c != nil && c.leaf != nil {
		out.Put(xds.Secrets, envoy.Secret(&ir.Secret{Name: c.name, KeyPair: &ir.KeyPair{
			Certificate: string(c.leaf.Certificate), Key: ir.Sensitive(c.leaf.Key),
		}}))
	}
	return out
}

// trustedSince notes when the CAs of a mesh's identities were first seen in its
// trust.
func trustedSince(ids *identity.Mesh, before map[[32]byte]time.Time, now time.Time) map[[32]byte]time.Time {
	out := map[[32]byte]time.Time{}
	for _, i := range ids.All() {
		if !i.Ready || i.Spire {
			continue
		}
		ca, err := i.CA()
		if err != nil {
			continue
		}
		domain, err := i.TrustDomain()
		if err != nil {
			continue
		}
		if t := ids.Trusts(domain); t == nil || !t.Has(ca.Fingerprint) {
			continue
		}
		if since, ok := before[ca.Fingerprint]; ok {
			out[ca.Fingerprint] = since
		} else {
			out[ca.Fingerprint] = now
		}
	}
	return out
}

// isCertificate tells whether a secret is the certificate of a proxy, which no
// two compilations have in common.
func isCertificate(t xds.Type, name string) bool { return t == xds.Secrets && name != trustName }

// certify is what a matchJob finds out about the identity of its proxy.
type certify struct {
	secured  *secured
	security digest
	cert     *certificate
	certWarn warnings
}

// identified reports that the proxy is who it was, of identities that are as they
// were, and that there is nothing to do about its certificate.
func (p *Proxy) identified(ids *identity.Mesh, now time.Time) bool {
	switch s := p.secured; {
	case p.ids != ids:
		return false
	case s == nil || s.identity.Spire:
		return true
	case identity.Outside(s.identity.Object): // its CA may be another one at any time
		return false
	}
	return p.cert != nil && now.Before(p.cert.renew)
}

// identify decides about the identity and the certificate. same: the Dataplane is as
// it was.
func (j *matchJob) identify(now time.Time, same bool) {
	ids := j.mesh.ids
	if p := j.p; same && p.identified(ids, now) {
		j.secured, j.security, j.cert, j.certWarn.list = p.secured, p.security, p.cert, p.certWarn
		return
	}
	j.secured = secure(ids, j.dp, &j.certWarn)
	var facts struct {
		Mutual *mutual
		Spire  time.Duration
		Trust  digest
	}
	if s := j.secured; s != nil {
		facts.Mutual = &s.mutual
		if s.identity.Spire {
			facts.Spire = s.identity.Timeout
		}
	}
	facts.Trust = j.mesh.trust
	j.security = digestOf(&facts)
	j.cert = certified(ids, j.secured, j.p.cert, j.dp, j.mesh.trusted, now, &j.certWarn)
}

// settleIdentity takes what identify found.
func (e *Engine) settleIdentity(j *matchJob) {
	p := j.p
	p.ids, p.secured, p.security = j.mesh.ids, j.secured, j.security
	if !slices.Equal(p.certWarn, j.certWarn.list) {
		p.certWarn = j.certWarn.list
		e.pending[p] = struct{}{}
	}
	defer func() { p.settleProof(j.mesh.ids.TrustKRIs) }()
	if j.cert == p.cert {
		return
	}
	if old := p.cert; old == nil || j.cert == nil || old.leaf != j.cert.leaf || old.name != j.cert.name {
		var certs *xds.Layer
		if c := j.cert.changes(); len(c) > 0 {
			certs = p.certs.Becoming(c)
		}
		p.certs = certs
		e.pending[p] = struct{}{}
		e.certificates.Add(1)
	}
	p.cert = j.cert
	p.renewAt(j.cert)
}

// renewAt has the proxy looked at when it is time for another certificate.
func (p *Proxy) renewAt(c *certificate) {
	if p.renewal != nil {
		p.renewal.Stop()
		p.renewal = nil
	}
	if c == nil {
		return
	}
	e := p.engine
	// Certificates expire by themselves, and so does a pause after a failure.
	p.renewal = time.AfterFunc(time.Until(c.renew), func() {
		e.do(func() {
			if p.attached {
				e.mark(&p.unit)
			}
		})
	})
}
