package kds

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// hold keeps a zone's stream for questions open, and hands out what it answers.
func hold(g *Global, s grpc.ServerStream, name streamName, send func(id string, q AdminQuestion) error, recv func() (string, reply, error)) error {
	p, err := g.admit(s.Context())
	if err != nil {
		return err
	}
	if err := s.SendHeader(metadata.Pairs(headerFeatures, featureAtoll)); err != nil {
		return err
	}
	key := askerKey{p.zone, name}
	a := g.askers.add(key, send)
	defer g.askers.remove(key, a)
	end := g.insights.opened(p.zone, name)
	defer end()
	for {
		id, r, err := recv()
		if err != nil {
			return g.ended(p, string(name), err)
		}
		a.answered(id, r)
	}
}

// AdminQuestion is what a global asks about one proxy of a zone.
type AdminQuestion struct {
	Type, Name, Mesh string
	IncludeEDS       bool // of configurations
	UsedOnly         bool // of statistics
	JSON             bool // instead of text
}

// Admin answers questions about proxies. A nil function answers that this is not
// available yet.
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
