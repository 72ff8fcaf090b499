package xds_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/atoll-mesh/atoll/pkg/delta/client"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// The test client asks for what clusters and listeners refer to, and gives it up
// with them, as Envoy does.
func TestClientFollows(t *testing.T) {
	c := xds.Changes{}
	web(t, c, "web", 1)
	web(t, c, "other", 2)
	service(t, c, "c0", time.Second, 3)
	service(t, c, "c1", time.Second, 3)
	to(t, c, "web", "c0")
	to(t, c, "other", "c1")
	load(t, c, "of-nobody", "1", 3)
	layer := xds.NewLayer(c)
	m, port := newMesh(t, xds.NewSet(1, layer))
	conn, err := grpc.NewClient(fmt.Sprint("127.0.0.1:", port), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p := client.New(client.Options{Node: &core.Node{Id: "a"}, Subscribe: []string{client.ClusterURL, client.ListenerURL}, Follow: true})
	go p.Run(ctx, conn)
	await := func(clusters, endpoints, listeners, routes int) {
		t.Helper()
		var got [4]int
		if err := p.Wait(ctx, func(s *client.State) bool {
			for i, url := range []string{client.ClusterURL, client.EndpointURL, client.ListenerURL, client.RouteURL} {
				got[i] = len(s.Has(url))
			}
			return got == [4]int{clusters, endpoints, listeners, routes} && s.Answered(client.EndpointURL) && s.Answered(client.RouteURL)
		}); err != nil {
			t.Fatalf("has %v: %v", got, err)
		}
	}
	await(2, 2, 2, 2)
	gone := xds.Changes{}
	gone.Remove(xds.Listeners, "other")
	gone.Remove(xds.Routes, "other")
	gone.Remove(xds.Clusters, "c1")
	gone.Remove(xds.Endpoints, "c1")
	m.put(xds.NewSet(2, layer.With(gone)))
	await(1, 1, 1, 1)
	m.delivered(t, 2)
}
