package xds

import (
	"fmt"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

func decoded(t *testing.T, c *codec, b []byte) *discovery.DeltaDiscoveryRequest {
	t.Helper()
	req := &discovery.DeltaDiscoveryRequest{ResponseNonce: "of another one"}
	if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b[:len(b)/2]), mem.SliceBuffer(b[len(b)/2:])}, req); err != nil {
		t.Fatal(err)
	}
	return req
}

// Long requests are understood as short ones are, and their names are shared by
// those who ask for the same.
func TestRequestsShareNames(t *testing.T) {
	c := &codec{CodecV2: encoding.GetCodecV2(encproto.Name)}
	var names []string
	for i := range 300 {
		names = append(names, fmt.Sprint("service-", i))
	}
	var before []string
	for i := range maxLists + 3 {
		req := &discovery.DeltaDiscoveryRequest{
			Node: &core.Node{Id: fmt.Sprint("proxy-", i)}, TypeUrl: Endpoints.URL(),
			ResourceNamesSubscribe: names, ResourceNamesUnsubscribe: []string{"gone"},
			InitialResourceVersions: map[string]string{"a": "1"}, ResponseNonce: fmt.Sprint(i),
		}
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		got := decoded(t, c, b)
		if !proto.Equal(got, req) {
			t.Fatalf("%v is not %v", got, req)
		}
		if i > 0 && &got.ResourceNamesSubscribe[0] != &before[0] {
			t.Error("names are not shared")
		}
		before = got.ResourceNamesSubscribe
	}
	for i := range maxLists + 3 { // others drive it out
		req := &discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: slices.Concat(names, []string{fmt.Sprint(i)})}
		b, err := proto.Marshal(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := decoded(t, c, b); !proto.Equal(got, req) {
			t.Fatalf("%v is not %v", got, req)
		}
	}
	if n := len(c.lists.last); n != maxLists {
		t.Errorf("%d lists are kept", n)
	}
}

// Whatever arrives, it is taken or refused as the usual codec does, the first time
// and the second.
func FuzzRequests(f *testing.F) {
	long := make([]string, 220)
	for i := range long {
		long[i] = fmt.Sprint("name-", i)
	}
	for _, req := range []*discovery.DeltaDiscoveryRequest{
		{TypeUrl: Endpoints.URL(), ResourceNamesSubscribe: long},
		{Node: &core.Node{Id: "a"}, ResourceNamesSubscribe: long, ResourceNamesUnsubscribe: long, ResponseNonce: "1"},
	} {
		b, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...)) // names in two places
		f.Add(append(b, 0x1a, 1, 0xff))
		f.Add(b[:len(b)-1])
	}
	c := &codec{CodecV2: encoding.GetCodecV2(encproto.Name)}
	f.Fuzz(func(t *testing.T, b []byte) {
		var usual discovery.DeltaDiscoveryRequest
		want := proto.Unmarshal(b, &usual)
		for range 2 {
			var got discovery.DeltaDiscoveryRequest
			err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, &got)
			if (err == nil) != (want == nil) || err == nil && !proto.Equal(&got, &usual) {
				t.Fatalf("%v, %v; want %v, %v", &got, err, &usual, want)
			}
		}
	})
}
