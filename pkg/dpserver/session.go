package dpserver

import (
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// session is one admitted stream of a proxy.
type session struct {
	Attachment
	s       *Server
	proxy   Proxy
	brought bool        // its Dataplane came with it
	end     func(error) // ends the stream

	// mu guards what follows. Nothing else is locked while it is held.
	mu           sync.Mutex
	report       xds.Report
	clean        uint64           // revision at which the proxy refused nothing, 0: none yet
	rejections   []kind.Rejection // as they are to be written
	subscription *meshproto.DiscoverySubscription
	proof        *compile.Proof // nil: it has no certificate, or none yet
	exports      *meshproto.DataplaneInsight_OpenTelemetry
	metadata     *structpb.Struct
	starting     bool    // its Envoy had nothing, and does not listen yet
	starter      bool    // it counts among those that start
	told         *string // version of what the agent is told; nil: its Envoy has nothing yet
}

// Status is how a connected proxy is doing.
type Status struct {
	Proxy     Proxy
	Connected time.Time
	Report    xds.Report
}

func newSession(s *Server, p Proxy, starting bool, end func(error)) *session {
	v := p.Version
	if v.KumaDp != nil {
		v.KumaDp.KumaCpCompatible = compatible(s.cfg.Version, v.KumaDp.Version)
	}
	_, brought := p.Node.GetMetadata().GetFields()[keyResource]
	now := timestamppb.Now()
	return &session{
		s: s, proxy: p, brought: brought, starting: starting, starter: starting, end: end,
		metadata: insightMetadata(p.Node),
		subscription: &meshproto.DiscoverySubscription{
			Id:                     uuid.NewString(),
			ControlPlaneInstanceId: s.cfg.InstanceID,
			ConnectTime:            now,
			Version:                v,
			Status:                 &meshproto.DiscoverySubscriptionStatus{LastUpdateTime: now},
		},
	}
}

// replace ends the stream because its proxy has a newer one.
func (s *session) replace() {
	s.end(status.Error(codes.Aborted, "the proxy has a newer stream"))
}

// Delivered takes note of what the proxy was sent and what it answered. Only its
// first acknowledgement, that it listens, its rejections and their end are written
// down; the numbers in between go with the next of these.
func (s *session) Delivered(r xds.Report) {
	r.Rejections = sorted(r.Rejections)
	s.mu.Lock()
	before := s.report
	s.report = r
	s.subscription.Status.LastUpdateTime = timestamppb.Now()
	if len(r.Rejections) == 0 {
		s.rejections = nil
		if r.Revision != 0 {
			s.clean = r.Revision
		}
	}
	listens := s.starting && r.Listening
	s.starting = s.starting && !listens
	s.mu.Unlock()
	if s.newTold() {
		s.s.tellAgent(s.proxy.ID, s.s.questions.get(s.proxy.ID))
	}
	first := before.Revision == 0 && r.Revision != 0
	refused := rejected(r) > rejected(before)
	other := !slices.Equal(before.Rejections, r.Rejections)
	if refused {
		for _, x := range r.Rejections {
			s.s.log.Warn("a proxy rejected configuration", "mesh", s.proxy.ID.Mesh, "proxy", s.proxy.ID.Name,
				"type", x.Type.String(), "resource", x.Name, "error", x.Error)
		}
	}
	if other && len(r.Rejections) > 0 {
		s.s.blame.about(s)
	} else if first || refused || other {
		s.s.writer.changed(s)
	}
	if listens {
		s.leaveStart()
		s.s.writer.changed(s) // nothing more, where it is to be written already
	}
}

// Close ends the session: its stream is over.
func (s *session) Close(err error) {
	s.Detach()
	s.leaveStart()
	s.mu.Lock()
	s.subscription.DisconnectTime = timestamppb.Now()
	s.mu.Unlock()
	s.s.log.Info("a proxy disconnected", "mesh", s.proxy.ID.Mesh, "proxy", s.proxy.ID.Name, "cause", err)
	s.s.writer.changed(s)
	s.s.proxies.left(s)
}

func (s *session) snapshot() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Proxy: s.proxy, Connected: s.subscription.ConnectTime.AsTime(), Report: s.report}
}

// describe is the subscription as it is to be written now.
func (s *session) describe() *meshproto.DiscoverySubscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := proto.Clone(s.subscription).(*meshproto.DiscoverySubscription)
	st := sub.Status
	st.Total = &meshproto.DiscoveryServiceStats{}
	for t, c := range s.report.Types {
		stats := &meshproto.DiscoveryServiceStats{
			ResponsesSent: c.Sent, ResponsesAcknowledged: c.Acked, ResponsesRejected: c.Rejected,
		}
		st.Total.ResponsesSent += c.Sent
		st.Total.ResponsesAcknowledged += c.Acked
		st.Total.ResponsesRejected += c.Rejected
		switch xds.Type(t) {
		case xds.Clusters:
			st.Cds = stats
		case xds.Endpoints:
			st.Eds = stats
		case xds.Listeners:
			st.Lds = stats
		case xds.Routes:
			st.Rds = stats
		}
	}
	return sub
}

// described is the metadata of the proxy as it is to be written now.
func (s *session) described() *structpb.Struct {
	s.mu.Lock()
	defer s.mu.Unlock()
	return kind.WithStarting(kind.WithRejections(s.metadata, s.rejections), s.starting)
}

func rejected(r xds.Report) (n uint64) {
	for _, c := range r.Types {
		n += c.Rejected
	}
	return n
}
