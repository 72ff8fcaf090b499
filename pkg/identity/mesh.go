package identity

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	// DefaultValidity of certificates of proxies.
	DefaultValidity = 5 * 24 * time.Hour
	// DefaultSpireTimeout of connecting to a SPIRE agent.
	DefaultSpireTimeout = time.Second
)

// Source is the snapshot to read.
type Source interface {
	Get(id resource.ID) *resource.Object
	List(t resource.Type, mesh string) iter.Seq[*resource.Object]
}

// Identity is one MeshIdentity, read.
type Identity struct {
	Object *resource.Object
	KRI    string // names its certificate for proxies
	// Ready: proxies that it selects get certificates.
	Ready bool
	// Published: its SPIFFE IDs are known to others, with certificates or not.
	Published bool
	Spire     bool // certificates come from a SPIRE agent
	Timeout   time.Duration
	Validity  time.Duration

	labels    map[string]string
	templates *templates
	invalid   error
	ca        func() (*CA, error)
}

// TrustDomain is the trust domain of its SPIFFE IDs, or why there is none.
func (i *Identity) TrustDomain() (string, error) {
	if i.invalid != nil {
		return "", i.invalid
	}
	return i.templates.trustDomain, nil
}

// SpiffeID is the identity of a Dataplane that it selects.
func (i *Identity) SpiffeID(dp *resource.Meta) (string, error) {
	if i.invalid != nil {
		return "", i.invalid
	}
	return i.templates.spiffeID(dp)
}

// Labels are those of a Dataplane that its SPIFFE ID is made of.
func (i *Identity) Labels() []string {
	if i.invalid != nil {
		return nil
	}
	return i.templates.labels()
}

// Selector is the labels by which it selects Dataplanes, sorted.
func (i *Identity) Selector() []string { return slices.Sorted(maps.Keys(i.labels)) }

// CA is the one that issues its certificates.
func (i *Identity) CA() (*CA, error) { return i.ca() }

// Mesh is the identities and the trust of one mesh. It is immutable.
type Mesh struct {
	Trust      []TrustDomain
	TrustKRIs  []string    // of the MeshTrusts that Trust was joined from, sorted
	identities []*Identity // best first
}

// NewMesh reads the MeshIdentities and MeshTrusts of a mesh, and the Secrets
// that hold the CAs.
func NewMesh(site resource.Site, src Source, mesh string) *Mesh {
	m := &Mesh{Trust: Trust(src.List(kind.MeshTrust, mesh))}
	for o := range src.List(kind.MeshTrust, mesh) {
		m.TrustKRIs = append(m.TrustKRIs, o.KRI().String())
	}
	slices.Sort(m.TrustKRIs)
	for o := range src.List(kind.MeshIdentity, mesh) {
		m.identities = append(m.identities, newIdentity(site, src, o))
	}
	slices.SortStableFunc(m.identities, func(a, b *Identity) int {
		return cmp.Or(-cmp.Compare(len(a.labels), len(b.labels)), strings.Compare(a.Object.Name, b.Object.Name))
	})
	return m
}

func newIdentity(site resource.Site, src Source, o *resource.Object) *Identity {
	spec := resource.SpecOf[kind.MeshIdentitySpec](o)
	i := &Identity{
		Object: o, KRI: o.KRI().String(), Validity: DefaultValidity, Timeout: DefaultSpireTimeout,
		Ready:     conditionTrue(o, kind.ConditionReady),
		Published: conditionTrue(o, kind.ConditionReady) || conditionTrue(o, kind.ConditionSpiffeIDProvider),
		ca:        func() (*CA, error) { return nil, errNotReady },
	}
	if s := spec.Selector; s != nil && s.Dataplane != nil {
		i.labels = s.Dataplane.MatchLabels
	}
	i.templates, i.invalid = newTemplates(site, o)
	p := spec.Provider
	if p == nil {
		return i
	}
	switch {
	case p.Type == kind.ProviderSpire:
		i.Spire = true
		if p.Spire != nil && p.Spire.Agent != nil && p.Spire.Agent.Timeout != nil && *p.Spire.Agent.Timeout > 0 {
			i.Timeout = time.Duration(*p.Spire.Agent.Timeout)
		}
	case p.Type == kind.ProviderBundled && p.Bundled != nil:
		if c := p.Bundled.CertificateParameters; c != nil && c.Expiry != nil && *c.Expiry > 0 {
			i.Validity = time.Duration(*c.Expiry)
		}
		if i.Ready {
			i.ca = authority(o, src)
		}
	}
	return i
}

var errNotReady = errors.New("the identity is not ready; its status says why")

// authority finds the CA at once, which is when src may be asked, and reads it
// when it is needed. What is in a file is looked at each time.
func authority(o *resource.Object, src Source) func() (*CA, error) {
	if Outside(o) {
		inline := map[resource.ID]*resource.Object{}
		p := resource.SpecOf[kind.MeshIdentitySpec](o).Provider.Bundled.CA
		for _, s := range []*kind.SecureDataSource{p.Certificate, p.PrivateKey} {
			if s != nil && s.SecretRef != nil {
				id := resource.ID{Type: kind.Secret, Mesh: o.Mesh, Name: s.SecretRef.Name}
				inline[id] = src.Get(id)
			}
		}
		return func() (*CA, error) {
			return CAOf(o, func(id resource.ID) *resource.Object { return inline[id] })
		}
	}
	pair, selfSigned, err := pairOf(o, src.Get)
	return sync.OnceValues(func() (*CA, error) {
		if err != nil {
			return nil, err
		}
		return LoadCA(pair, selfSigned)
	})
}

func conditionTrue(o *resource.Object, typ string) bool {
	status := resource.StatusOf[kind.MeshIdentityStatus](o)
	return status != nil && slices.ContainsFunc(status.Conditions, func(c kind.Condition) bool {
		return c.Type == typ && c.Status == "True"
	})
}

// Any tells whether the mesh has an identity, ready or not.
func (m *Mesh) Any() bool { return len(m.identities) > 0 }

// All returns the identities, best first.
func (m *Mesh) All() []*Identity { return m.identities }

// Matching yields the identities that select a Dataplane, best first: those with
// the most labels, then by name.
func (m *Mesh) Matching(dp *resource.Meta) iter.Seq[*Identity] {
	return func(yield func(*Identity) bool) {
		for _, i := range m.identities {
			s := resource.SpecOf[kind.MeshIdentitySpec](i.Object).Selector
			if s != nil && s.Dataplane != nil && resource.MatchLabels(i.labels, dp.Labels) && !yield(i) {
				return
			}
		}
	}
}

// Of returns the identity that is selected for a Dataplane: the best that
// matches, nil if none does.
func (m *Mesh) Of(dp *resource.Meta) *Identity {
	for i := range m.Matching(dp) {
		return i
	}
	return nil
}

// Trusts returns a trust domain, or nil when the mesh does not trust it.
func (m *Mesh) Trusts(domain string) *TrustDomain {
	for k := range m.Trust {
		if m.Trust[k].Name == domain {
			return &m.Trust[k]
		}
	}
	return nil
}

// Issue makes a certificate for a Dataplane.
func (m *Mesh) Issue(i *Identity, dp *resource.Meta, now time.Time) (*Leaf, error) {
	id, err := i.SpiffeID(dp)
	if err != nil {
		return nil, err
	}
	ca, err := i.CA()
	if err != nil {
		return nil, err
	}
	leaf, err := ca.Issue(id, i.Validity, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.Object.ID, err)
	}
	return leaf, nil
}

// TrustDomainOf is the trust domain of a MeshIdentity's SPIFFE IDs.
func TrustDomainOf(site resource.Site, o *resource.Object) (string, error) {
	t, err := newTemplates(site, o)
	if err != nil {
		return "", err
	}
	return t.trustDomain, nil
}
