package faults

import (
	"testing"

	"github.com/atoll-mesh/atoll/test/cluster"
)

func newRelay(t testing.TB, target string) *cluster.Relay {
	r, err := cluster.NewRelay(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}
