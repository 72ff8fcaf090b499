package main

import (
	"context"
	"fmt"
	"time"

	"github.com/atoll-mesh/atoll/pkg/delta/client"
)

// What is measured of proxies that come back at once.
const (
	whatBack     = "all are back and have their endpoints"
	whatBackCPU  = "CPU since its start"
	whatBackPeak = "peak RSS since its start"
	whatLost     = "endpoints that proxies were without"
	whatAgain    = "resources sent again, but for endpoints and certificates"
)

// herd says whether to measure how all proxies come back at once.
var herd bool

// back is what a proxy sees since it lost its control plane.
type back struct {
	answered map[string]bool // types
	loads    map[string]bool // load assignments that came
	low      int             // the fewest endpoints that it had
	other    int             // resources that were sent again, but for endpoints and certificates
}

func (b *back) seen(h *holding, r *client.Response) {
	b.answered[r.URL] = true
	switch r.URL {
	case client.EndpointURL:
		for _, res := range r.Resources {
			b.loads[res.Name] = true
		}
	case client.SecretURL:
	default:
		b.other += len(r.Resources) + len(r.Removed)
	}
	b.low = min(b.low, h.total)
}

// herd kills the control plane and starts it on what it had stored. All proxies
// connect again, as soon as they can, and state what they have.
func (f *fleet) herd(ctx context.Context, r *report, cp *controlPlane, name string) error {
	name += ", killed and started"
	total := make([]int, len(f.clients))
	for i, cl := range f.clients {
		if err := cl.Do(func(*client.State) {
			h := f.held[i]
			total[i] = h.total
			h.back = &back{answered: map[string]bool{}, loads: map[string]bool{}, low: h.total}
		}); err != nil {
			return err
		}
	}
	cp.kill()
	start := time.Now()
	if err := cp.start(ctx); err != nil {
		return err
	}
	err := f.all(ctx, "herd", func(i int, s *client.State) bool {
		b := f.held[i].back
		return b.answered[client.ClusterURL] && b.answered[client.ListenerURL] && len(b.loads) >= s.Names(client.EndpointURL)
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, cp.lastLog())
	}
	r.add(name, whatBack, seconds(time.Since(start)))
	u, err := cp.usage()
	if err != nil {
		return err
	}
	r.add(name, whatBackCPU, seconds(u.cpu))
	lost, other := 0, 0
	for i, cl := range f.clients {
		if err := cl.Do(func(*client.State) {
			lost += total[i] - f.held[i].back.low
			other += f.held[i].back.other
		}); err != nil {
			return err
		}
	}
	r.add(name, whatLost, count(int64(lost)))
	r.add(name, whatAgain, count(int64(other)))
	if err := settle(ctx, cp); err != nil {
		return err
	}
	if u, err = cp.usage(); err != nil {
		return err
	}
	r.add(name, whatBackPeak, megabytes(u.peak))
	return nil
}
