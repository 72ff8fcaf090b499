package dpserver

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
)

// proved notes the certificate that the proxy has now. The first of a connection
// is written together with its first acknowledgement.
func (s *session) proved(p *compile.Proof) {
	s.mu.Lock()
	s.proof = p
	late := s.report.Revision != 0
	s.mu.Unlock()
	if late {
		s.s.writer.changed(s)
	}
}

// certify says in the proxy's insight which certificate it has. What an earlier
// connection left stays until it is known what this one is given.
func (s *session) certify(insight *meshproto.DataplaneInsight) {
	s.mu.Lock()
	proof, known := s.proof, s.report.Revision != 0
	s.mu.Unlock()
	if proof == nil {
		if known {
			insight.MTLS = nil
		}
		return
	}
	old := insight.GetMTLS()
	next := &meshproto.DataplaneInsight_MTLS{
		CertificateExpirationTime:   timestamppb.New(proof.Expires),
		LastCertificateRegeneration: timestamppb.New(proof.Issued),
		CertificateRegenerations:    old.GetCertificateRegenerations(),
		IssuedBackend:               proof.Identity,
		SupportedBackends:           proof.Trusted,
	}
	if old == nil || !old.GetLastCertificateRegeneration().AsTime().Equal(proof.Issued) {
		next.CertificateRegenerations++
	}
	insight.MTLS = next
}
