package kds

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
)

// The admin streams carry questions of the global about proxies of a zone. The
// global accepts and holds them; nothing asks yet.

// StreamXDSConfigs holds a zone's stream for configurations of proxies.
func (g *Global) StreamXDSConfigs(s meshv1.GlobalKDSService_StreamXDSConfigsServer) error {
	return hold(g, s, streamConfigDump, func() error { _, err := s.Recv(); return err })
}

// StreamStats holds a zone's stream for statistics of proxies.
func (g *Global) StreamStats(s meshv1.GlobalKDSService_StreamStatsServer) error {
	return hold(g, s, streamStats, func() error { _, err := s.Recv(); return err })
}

// StreamClusters holds a zone's stream for clusters of proxies.
func (g *Global) StreamClusters(s meshv1.GlobalKDSService_StreamClustersServer) error {
	return hold(g, s, streamClusters, func() error { _, err := s.Recv(); return err })
}

func hold(g *Global, s grpc.ServerStream, name streamName, recv func() error) error {
	p, err := g.admit(s.Context())
	if err != nil {
		return err
	}
	if err := s.SendHeader(metadata.Pairs(headerFeatures, featureAtoll)); err != nil {
		return err
	}
	end := g.insights.opened(p.zone, name)
	defer end()
	for {
		if err := recv(); err != nil {
			return g.ended(p, string(name), err)
		}
	}
}

// AdminQuestion is what a global asks about one proxy of a zone.
type AdminQuestion struct {
	Type, Name, Mesh string
	IncludeEDS       bool // of configurations
	UsedOnly         bool // of statistics
	JSON             bool // instead of text
}

// Admin answers questions about proxies. A nil function, or a nil Admin, answers
// that this is not available yet.
type Admin struct {
	Config, Stats, Clusters func(context.Context, AdminQuestion) ([]byte, error)
}

// adminTimeout bounds one question.
const adminTimeout = 10 * time.Second

// answer runs one question. The error is text for the global.
func answer(ctx context.Context, f func(context.Context, AdminQuestion) ([]byte, error), q AdminQuestion) ([]byte, string) {
	if f == nil {
		return nil, "this zone's control plane does not answer such questions yet"
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	b, err := f(ctx, q)
	if err != nil {
		return nil, err.Error()
	}
	return b, ""
}
