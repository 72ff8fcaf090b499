package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/store"
)

// Benchmark measures 1,000 clients that write one resource each, all at once, as
// proxies do that come back together.
func Benchmark(b *testing.B, st store.Store) {
	const clients = 1000
	spec := make([]byte, 500)
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() {
				op := store.Op{Record: store.Record{ID: id(fmt.Sprint(i)), Spec: spec}, Expect: store.Any}
				if _, err := st.Write(context.Background(), op); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	batch, err := st.Read(context.Background(), 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(batch.Head)/float64(b.N), "commits/op")
}
