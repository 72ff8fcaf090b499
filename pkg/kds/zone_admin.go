package kds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/grpc"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
)

// maxQuestions bounds how many questions of one stream are worked on at a time.
const maxQuestions = 16

func (l *link) configs(ctx context.Context) error {
	return questions(ctx, "StreamXDSConfigs", l.client.StreamXDSConfigs,
		func(ctx context.Context, q *meshv1.XDSConfigRequest) *meshv1.XDSConfigResponse {
			b, text := answer(ctx, l.z.cfg.Admin.Config, AdminQuestion{
				Type: q.ResourceType, Name: q.ResourceName, Mesh: q.ResourceMesh, IncludeEDS: q.IncludeEds,
			})
			if text != "" {
				return &meshv1.XDSConfigResponse{RequestId: q.RequestId, Result: &meshv1.XDSConfigResponse_Error{Error: text}}
			}
			return &meshv1.XDSConfigResponse{RequestId: q.RequestId, Result: &meshv1.XDSConfigResponse_Config{Config: b}}
		})
}

func (l *link) stats(ctx context.Context) error {
	return questions(ctx, "StreamStats", l.client.StreamStats,
		func(ctx context.Context, q *meshv1.StatsRequest) *meshv1.StatsResponse {
			b, text := answer(ctx, l.z.cfg.Admin.Stats, AdminQuestion{
				Type: q.ResourceType, Name: q.ResourceName, Mesh: q.ResourceMesh,
				UsedOnly: q.UsedOnly, JSON: q.Format == meshv1.AdminOutputFormat_JSON,
			})
			if text != "" {
				return &meshv1.StatsResponse{RequestId: q.RequestId, Result: &meshv1.StatsResponse_Error{Error: text}}
			}
			return &meshv1.StatsResponse{RequestId: q.RequestId, Result: &meshv1.StatsResponse_Stats{Stats: b}}
		})
}

func (l *link) clusters(ctx context.Context) error {
	return questions(ctx, "StreamClusters", l.client.StreamClusters,
		func(ctx context.Context, q *meshv1.ClustersRequest) *meshv1.ClustersResponse {
			b, text := answer(ctx, l.z.cfg.Admin.Clusters, AdminQuestion{
				Type: q.ResourceType, Name: q.ResourceName, Mesh: q.ResourceMesh,
				JSON: q.Format == meshv1.AdminOutputFormat_JSON,
			})
			if text != "" {
				return &meshv1.ClustersResponse{RequestId: q.RequestId, Result: &meshv1.ClustersResponse_Error{Error: text}}
			}
			return &meshv1.ClustersResponse{RequestId: q.RequestId, Result: &meshv1.ClustersResponse_Clusters{Clusters: b}}
		})
}

// questions answers what a global asks on one stream, each question by itself.
// A global without that stream is an old one, and nothing is asked.
func questions[Q, A any](ctx context.Context, name string,
	open func(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[A, Q], error),
	reply func(context.Context, *Q) *A,
) error {
	stream, err := open(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var mu sync.Mutex // guards sending
	busy := make(chan struct{}, maxQuestions)
	for {
		q, err := stream.Recv()
		if tolerated(err) || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		select {
		case busy <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		go func() {
			defer func() { <-busy }()
			a := reply(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			_ = stream.Send(a) // a broken stream shows in Recv
		}()
	}
}
