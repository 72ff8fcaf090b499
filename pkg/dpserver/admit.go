package dpserver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// author is who stands in the history of what a proxy registers.
const author = "dataplane-proxy"

// admit checks that the holder of the token may be this proxy, and sees to it
// that its Dataplane is in the view. brought says that the proxy carries its
// Dataplane with it, which then lives as long as the proxy.
func (s *Server) admit(ctx context.Context, p Proxy, token string) (brought bool, err error) {
	text := p.Node.GetMetadata().GetFields()[keyResource].GetStringValue()
	if text == "" {
		dp, err := s.await(ctx, p.ID)
		if err != nil {
			return false, status.Errorf(codes.NotFound,
				"%s does not exist; create it, or let the agent bring it with --dataplane-file", p.ID)
		}
		return false, s.authenticate(ctx, token, dp)
	}
	dp, err := s.decodeDataplane([]byte(text))
	if err != nil {
		return false, status.Error(codes.InvalidArgument, err.Error())
	}
	if dp.ID != p.ID {
		return false, status.Errorf(codes.InvalidArgument,
			"node metadata %s is %s, but the node id says %s", keyResource, dp.ID, p.ID)
	}
	labelled, err := s.cfg.Site.Admit(dp, s.cfg.View.Snapshot().Get(dp.ID))
	if err != nil {
		return false, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.authenticate(ctx, token, labelled); err != nil {
		return false, err
	}
	if _, err := s.await(ctx, resource.ID{Type: kind.Mesh, Name: p.ID.Mesh}); err != nil {
		return false, status.Errorf(codes.FailedPrecondition, "mesh %q does not exist; create it first", p.ID.Mesh)
	}
	return true, s.register(ctx, token, dp)
}

func (s *Server) authenticate(ctx context.Context, token string, dp *resource.Object) error {
	if s.cfg.Authenticate == nil {
		return nil
	}
	if token == "" {
		return status.Error(codes.Unauthenticated,
			"a token is required; make one with `atollctl generate dataplane-token` and pass it with --dataplane-token-file")
	}
	if err := s.cfg.Authenticate(ctx, token, dp); err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return nil
}

// register stores a Dataplane unless it is stored already. Many proxies that
// register at once share commits: the store groups concurrent writes.
func (s *Server) register(ctx context.Context, token string, sent *resource.Object) error {
	rev, err := view.Edit(ctx, s.cfg.View, s.cfg.Store, sent.ID, author, func(old *resource.Object) (*resource.Object, error) {
		dp, err := s.cfg.Site.Admit(sent, old)
		if err != nil {
			return nil, err
		}
		if old != nil && !dp.SameContent(old) {
			// A token must not take over what it could not have registered.
			if err := s.authenticate(ctx, token, old); err != nil {
				return nil, status.Errorf(codes.PermissionDenied,
					"%s exists and the token is not valid for it: %s", old.ID, status.Convert(err).Message())
			}
		}
		return dp, nil
	})
	if err == nil {
		_, err = s.cfg.View.Wait(ctx, rev)
	}
	switch {
	case err == nil:
		return nil
	case status.Code(err) != codes.Unknown:
		return err
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	}
	return status.Errorf(codes.Unavailable, "%s could not be registered: %v", sent.ID, err)
}

var errNotThere = errors.New("did not appear in time")

// await returns a resource once it is in the view, for which it waits a bounded
// time: agents often start a moment before what they need is there.
func (s *Server) await(ctx context.Context, id resource.ID) (*resource.Object, error) {
	if o := s.cfg.View.Snapshot().Get(id); o != nil {
		return o, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.AppearTimeout, errNotThere)
	defer cancel()
	sub := s.cfg.View.Subscribe()
	defer sub.Close()
	for {
		select {
		case <-sub.C():
			if o := s.cfg.View.Snapshot().Get(id); o != nil {
				return o, nil
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
