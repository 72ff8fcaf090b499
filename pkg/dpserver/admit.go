package dpserver

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// author is who stands in the history of what a proxy registers.
const author = "dataplane-proxy"

// admit checks that the holder of the token may be this proxy, and sees to it
// that its Dataplane is in the view.
func (s *Server) admit(ctx context.Context, sess *session, token string) error {
	id := sess.proxy.ID
	if !sess.brought {
		dp, err := s.await(ctx, id)
		if err != nil {
			return status.Errorf(codes.NotFound,
				"%s does not exist; create it, or let the agent bring it with --dataplane-file", id)
		}
		if err := s.authenticate(ctx, token, dp); err != nil {
			return err
		}
		if dp.Labels[resource.LabelDraining] != "" { // it is back
			err = s.setDraining(ctx, id, false)
		}
		return err
	}
	text := sess.proxy.Node.GetMetadata().GetFields()[keyResource].GetStringValue()
	sent, err := s.decodeDataplane([]byte(text))
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if sent.ID != id {
		return status.Errorf(codes.InvalidArgument, "node metadata %s is %s, but the node id says %s", keyResource, sent.ID, id)
	}
	old := s.cfg.View.Snapshot().Get(id)
	dp, err := s.cfg.Site.Admit(keepHealth(sent, old), old)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err := s.authenticate(ctx, token, dp); err != nil {
		return err
	}
	if s.cfg.CheckIdentity != nil {
		if err := s.cfg.CheckIdentity(token, dp); err != nil {
			return status.Error(codes.PermissionDenied, err.Error())
		}
	}
	if _, err := s.await(ctx, resource.ID{Type: kind.Mesh, Name: id.Mesh}); err != nil {
		return status.Errorf(codes.FailedPrecondition, "mesh %q does not exist; create it first", id.Mesh)
	}
	if old != nil && dp.SameContent(old) {
		return nil // also while the store is away
	}
	return s.writer.register(sess, sent, func(stored *resource.Object) error {
		// A token must not take over what it could not have registered.
		if err := s.authenticate(ctx, token, stored); err != nil {
			return status.Errorf(codes.PermissionDenied,
				"%s exists and the token is not valid for it: %s", stored.ID, status.Convert(err).Message())
		}
		return nil
	})
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
