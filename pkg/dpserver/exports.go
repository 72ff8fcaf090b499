package dpserver

import meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"

// exporting notes the collectors that the proxy's agent sends to now. The first
// of a connection are written together with its first acknowledgement.
func (s *session) exporting(to *meshproto.DataplaneInsight_OpenTelemetry) {
	s.mu.Lock()
	s.exports = to
	late := s.report.Revision != 0
	s.mu.Unlock()
	if late {
		s.s.writer.changed(s)
	}
}

// export says in the proxy's insight where its telemetry goes. What an earlier
// connection left stays until it is known what this one is given.
func (s *session) export(insight *meshproto.DataplaneInsight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exports != nil || s.report.Revision != 0 {
		insight.OpenTelemetry = s.exports
	}
}
