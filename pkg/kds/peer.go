package kds

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// peer is a zone that calls, as its headers and its token have it.
type peer struct {
	zone     string
	features features
	token    string
}

// admit says which zone calls and whether it may. The error is a gRPC status.
func (g *Global) admit(ctx context.Context) (*peer, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	p := &peer{features: features{}}
	ids := md.Get(headerClientID)
	if len(ids) != 1 || !resource.IsDNS1035Label(ids[0]) {
		return nil, status.Errorf(codes.InvalidArgument,
			"header %s must hold one zone name: at most 63 lower case letters, digits or '-', starting with a letter", headerClientID)
	}
	p.zone = ids[0]
	p.features.add(md.Get(headerFeatures)...)
	if a := md.Get(headerAuth); len(a) == 1 {
		p.token, _ = auth.Bearer(a[0])
	}
	return p, g.verify(p)
}

// verify checks the zone's token against the keys and revocations of now.
func (g *Global) verify(p *peer) error {
	if g.cfg.Tokens == nil {
		return nil
	}
	refuse := func(code codes.Code, reason string) error {
		g.log.Warn("a zone was refused", "zone", p.zone, "reason", reason)
		return status.Error(code, reason)
	}
	if p.token == "" {
		return refuse(codes.Unauthenticated, "header authorization with a zone token (Bearer …) is missing; issue one with \"atollctl generate zone-token --zone "+p.zone+"\"")
	}
	claims, err := g.cfg.Tokens.Zone(p.token)
	if errors.Is(err, auth.ErrInvalidToken) {
		return refuse(codes.Unauthenticated, "zone token: "+err.Error())
	}
	if err != nil {
		return refuse(codes.Unavailable, "zone token cannot be checked: "+err.Error())
	}
	if claims.Zone != p.zone {
		return refuse(codes.PermissionDenied, "the token is for zone "+claims.Zone+", not for "+p.zone)
	}
	if !slices.Contains(claims.Scope, auth.ScopeControlPlane) {
		return refuse(codes.PermissionDenied, "the token lacks the scope cp, which control planes need")
	}
	return nil
}
