package xds

import (
	"time"

	"github.com/atoll-mesh/atoll/pkg/delta"
)

// What a proxy is sent, in which order, and how long it is waited for.
const (
	// Gate is how long listeners, routes and removals wait for the proxy to
	// acknowledge what they refer to. Envoy gives up on endpoints and secrets that
	// do not arrive, and then acknowledges, after 15 s.
	gate = 20 * time.Second
	// maxBytes is under the 1 MiB that every client takes.
	maxBytes = 1 << 20
)

// streamConfig makes what all streams of a server have in common.
func streamConfig(identifier string) *delta.Config {
	const (
		cds, eds, lds = int(Clusters), int(Endpoints), int(Listeners)
		rds, sds      = int(Routes), int(Secrets)
		ecds, rtds    = int(Extensions), int(Runtimes)
	)
	types := make([]delta.Type, NumTypes)
	for t := range NumTypes {
		types[t].URL = t.URL()
	}
	types[cds].Required, types[lds].Required = true, true
	types[cds].Rearm = []int{eds}
	types[eds].Distrust = true
	types[cds].Uses = []int{eds, sds}
	types[lds].Uses = []int{rds, cds, eds, sds, ecds}
	types[rds].Uses = []int{cds, eds, sds}
	return &delta.Config{
		Types: types,
		Phases: []delta.Phase{
			{Type: rtds, Light: true},
			{Type: cds},
			{Type: eds, Light: true},
			{Type: sds, Light: true},
			{Type: ecds, Light: true},
			{Type: lds, Replace: true, Wait: true},
			{Type: rds, Wait: true},
			// Removals in the reverse order: nothing goes before what refers to it.
			{Type: lds, Remove: true, Wait: true},
			{Type: rds, Remove: true, Wait: true},
			{Type: ecds, Remove: true, Wait: true},
			{Type: sds, Remove: true, Wait: true},
			{Type: eds, Remove: true, Wait: true},
			{Type: cds, Remove: true, Wait: true},
			{Type: rtds, Remove: true, Wait: true},
		},
		Identifier: identifier,
		Gate:       gate,
		MaxBytes:   maxBytes,
		Names:      new(delta.Pool),
	}
}
