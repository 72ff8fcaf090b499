package compile

import (
	"slices"
	"time"
)

// Proof is with what a proxy proves who it is, and whom it believes. It is never
// modified.
type Proof struct {
	Identity        string // KRI of the MeshIdentity that its certificate is of
	Issued, Expires time.Time
	Trusted         []string // KRIs of the MeshTrusts of its mesh, sorted
}

// Prove has fn called with the Proof of the proxy now, if it has one, and each
// time another one takes its place: nil when it proves nothing any more. Calls
// come one after the other; fn must not block.
func (p *Proxy) Prove(fn func(*Proof)) {
	p.engine.do(func() {
		p.prove = fn
		if p.proof != nil {
			fn(p.proof)
		}
	})
}

// settleProof tells of the certificate that the proxy was given. Certificates
// from SPIRE are not known here.
func (p *Proxy) settleProof(trusted []string) {
	var next *Proof
	if c := p.cert; c != nil && c.leaf != nil {
		next = &Proof{Identity: c.name, Issued: c.leaf.NotBefore, Expires: c.leaf.NotAfter, Trusted: trusted}
	}
	if old := p.proof; old == next || old != nil && next != nil && old.equal(next) {
		return
	}
	p.proof = next
	if p.prove != nil {
		p.prove(next)
	}
}

func (a *Proof) equal(b *Proof) bool {
	return a.Identity == b.Identity && a.Issued.Equal(b.Issued) && a.Expires.Equal(b.Expires) && slices.Equal(a.Trusted, b.Trusted)
}
