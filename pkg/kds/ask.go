package kds

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// asker is a zone's stream on which this global asks about proxies. Answers may
// come in any order; each names its question.
type asker struct {
	mu      sync.Mutex // guards sending and waiting
	send    func(id string, q AdminQuestion) error
	waiting map[string]chan reply
	gone    chan struct{} // closed when the stream ends
}

type reply struct {
	body   []byte
	refuse string
}

type askerKey struct {
	zone   string
	stream streamName
}

// askers is the open streams, the newest of each zone and sort.
type askers struct {
	mu   sync.Mutex
	open map[askerKey]*asker
}

func (as *askers) add(k askerKey, send func(id string, q AdminQuestion) error) *asker {
	a := &asker{send: send, waiting: map[string]chan reply{}, gone: make(chan struct{})}
	as.mu.Lock()
	defer as.mu.Unlock()
	if as.open == nil {
		as.open = map[askerKey]*asker{}
	}
	as.open[k] = a
	return a
}

func (as *askers) remove(k askerKey, a *asker) {
	as.mu.Lock()
	defer as.mu.Unlock()
	close(a.gone)
	if as.open[k] == a {
		delete(as.open, k)
	}
}

func (as *askers) get(k askerKey) *asker {
	as.mu.Lock()
	defer as.mu.Unlock()
	return as.open[k]
}

// answered hands a reply to whoever asked, if they still wait.
func (a *asker) answered(id string, r reply) {
	a.mu.Lock()
	c := a.waiting[id]
	delete(a.waiting, id)
	a.mu.Unlock()
	if c != nil {
		c <- r // has room for one
	}
}

func (a *asker) ask(ctx context.Context, q AdminQuestion) ([]byte, error) {
	id, c := uuid.NewString(), make(chan reply, 1)
	a.mu.Lock()
	a.waiting[id] = c
	err := a.send(id, q)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.waiting, id)
		a.mu.Unlock()
	}()
	if err != nil {
		return nil, fmt.Errorf("the zone is going offline and could not be asked: %w", err)
	}
	select {
	case r := <-c:
		if r.refuse != "" {
			return nil, fmt.Errorf("the zone answers: %s", r.refuse)
		}
		return r.body, nil
	case <-a.gone:
		return nil, errors.New("the zone went offline: its connection ended before it answered")
	case <-ctx.Done():
		return nil, fmt.Errorf("the zone did not answer in time: %w", ctx.Err())
	}
}

// AskConfig asks a zone for the configuration that a proxy runs with. Errors of
// this and the other questions are text for whoever asks.
func (g *Global) AskConfig(ctx context.Context, zone string, q AdminQuestion) ([]byte, error) {
	return g.ask(ctx, zone, streamConfigDump, q)
}

// AskStats asks a zone for the statistics of a proxy.
func (g *Global) AskStats(ctx context.Context, zone string, q AdminQuestion) ([]byte, error) {
	return g.ask(ctx, zone, streamStats, q)
}

// AskClusters asks a zone for the clusters of a proxy.
func (g *Global) AskClusters(ctx context.Context, zone string, q AdminQuestion) ([]byte, error) {
	return g.ask(ctx, zone, streamClusters, q)
}

// ErrElsewhere says that a zone is connected to another replica of this global.
var ErrElsewhere = errors.New("the zone is not connected here")

func (g *Global) ask(ctx context.Context, zone string, stream streamName, q AdminQuestion) ([]byte, error) {
	if a := g.askers.get(askerKey{zone, stream}); a != nil {
		return a.ask(ctx, q)
	}
	o := g.cfg.View.Snapshot().Get(resource.ID{Type: kind.ZoneInsight, Name: zone})
	if o == nil {
		return nil, fmt.Errorf("zone %s never connected", zone)
	}
	insight := resource.SpecOf[systemv1.ZoneInsight](o)
	if !kind.ZoneOnline(insight) {
		return nil, fmt.Errorf("zone %s is offline", zone)
	}
	if by := holder(insight.GetKdsStreams(), stream); by != "" && by != g.cfg.InstanceID {
		return nil, fmt.Errorf("zone %s is connected to another instance of this global, %s, which cannot be asked: %w", zone, by, ErrElsewhere)
	}
	return nil, fmt.Errorf("zone %s has no stream %s to this global; its control plane may be too old", zone, stream)
}

// holder is the instance that has a stream of a zone.
func holder(s *systemv1.KDSStreams, stream streamName) string {
	switch stream {
	case streamConfigDump:
		return s.GetConfigDump().GetGlobalInstanceId()
	case streamStats:
		return s.GetStats().GetGlobalInstanceId()
	case streamClusters:
		return s.GetClusters().GetGlobalInstanceId()
	}
	return ""
}

// StreamXDSConfigs asks a zone for configurations of proxies.
func (g *Global) StreamXDSConfigs(s meshv1.GlobalKDSService_StreamXDSConfigsServer) error {
	return hold(g, s, streamConfigDump, func(id string, q AdminQuestion) error {
		return s.Send(&meshv1.XDSConfigRequest{
			RequestId: id, ResourceType: q.Type, ResourceName: q.Name, ResourceMesh: q.Mesh, IncludeEds: q.IncludeEDS,
		})
	}, func() (string, reply, error) {
		m, err := s.Recv()
		return m.GetRequestId(), reply{m.GetConfig(), m.GetError()}, err
	})
}

// StreamStats asks a zone for statistics of proxies.
func (g *Global) StreamStats(s meshv1.GlobalKDSService_StreamStatsServer) error {
	return hold(g, s, streamStats, func(id string, q AdminQuestion) error {
		return s.Send(&meshv1.StatsRequest{
			RequestId: id, ResourceType: q.Type, ResourceName: q.Name, ResourceMesh: q.Mesh,
			UsedOnly: q.UsedOnly, Format: outputFormat(q),
		})
	}, func() (string, reply, error) {
		m, err := s.Recv()
		return m.GetRequestId(), reply{m.GetStats(), m.GetError()}, err
	})
}

// StreamClusters asks a zone for clusters of proxies.
func (g *Global) StreamClusters(s meshv1.GlobalKDSService_StreamClustersServer) error {
	return hold(g, s, streamClusters, func(id string, q AdminQuestion) error {
		return s.Send(&meshv1.ClustersRequest{
			RequestId: id, ResourceType: q.Type, ResourceName: q.Name, ResourceMesh: q.Mesh, Format: outputFormat(q),
		})
	}, func() (string, reply, error) {
		m, err := s.Recv()
		return m.GetRequestId(), reply{m.GetClusters(), m.GetError()}, err
	})
}

func outputFormat(q AdminQuestion) meshv1.AdminOutputFormat {
	if q.JSON {
		return meshv1.AdminOutputFormat_JSON
	}
	return meshv1.AdminOutputFormat_TEXT
}
