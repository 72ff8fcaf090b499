package dpserver

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// Shaping tells which policies shaped a resource of a proxy, the one that was
// changed last first; ok is false when the snapshot does not give the proxy that
// version.
type Shaping func(s *view.Snapshot, info compile.ProxyInfo, t xds.Type, name, version string) (list []*resource.Object, ok bool)

// Bounds of what insights tell about rejections.
const (
	maxRejections = 8
	maxSuspects   = 8
	maxWords      = 1000 // bytes of what Envoy says
)

// blame finds out which policies made proxies refuse what they were given. It
// works beside everything else, one proxy at a time: that takes a moment.
type blame struct {
	s    *Server
	wake chan struct{} // cap 1

	mu      sync.Mutex // guards waiting
	waiting []*session

	known map[refused]verdict // of the goroutine that looks
}

// refused is one version of a resource, whoever refused it.
type refused struct {
	mesh          string
	typ           xds.Type
	name, version string
}

// verdict is the policies that shaped it.
type verdict struct {
	policies []*resource.Object
	ok       bool
}

// maxKnown bounds what is remembered: proxies share most of what they refuse.
const maxKnown = 256

func newBlame(s *Server) *blame {
	return &blame{s: s, wake: make(chan struct{}, 1), known: map[refused]verdict{}}
}

// about has the rejections of a session looked at, and then written.
func (b *blame) about(s *session) {
	b.mu.Lock()
	if !slices.Contains(b.waiting, s) {
		b.waiting = append(b.waiting, s)
	}
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// run looks until ctx ends.
func (b *blame) run(ctx context.Context) {
	for {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return
		}
		for ctx.Err() == nil {
			b.mu.Lock()
			if len(b.waiting) == 0 {
				b.mu.Unlock()
				break
			}
			s := b.waiting[0]
			b.waiting = slices.Delete(b.waiting, 0, 1)
			b.mu.Unlock()
			b.look(s)
		}
	}
}

func (b *blame) look(s *session) {
	s.mu.Lock()
	report, clean := s.report, s.clean
	s.mu.Unlock()
	list := make([]kind.Rejection, 0, len(report.Rejections))
	for _, x := range sorted(report.Rejections) {
		if len(list) == maxRejections {
			break
		}
		list = append(list, kind.Rejection{
			Type: x.Type.String(), Resource: x.Name, Error: shortened(x.Error), Since: x.Since,
			Policies: b.suspects(s, x, clean),
		})
	}
	s.mu.Lock()
	current := slices.Equal(report.Rejections, s.report.Rejections) // else there is another look
	if current {
		s.rejections = list
	}
	s.mu.Unlock()
	if current {
		b.s.writer.changed(s)
	}
}

// suspects are the policies that may have caused a rejection. When the proxy
// accepted everything before, those that changed since; when it did not say yet,
// those that write Envoy's configuration by hand, which nobody checks before
// Envoy does, and without any of these all that shaped it.
func (b *blame) suspects(s *session, x xds.Rejection, clean uint64) []string {
	v := b.shaping(s, x)
	if !v.ok {
		return nil
	}
	list := slices.Clone(v.policies)
	byHand := func(p *resource.Object) bool { return p.Type == "MeshProxyPatch" }
	switch {
	case clean > 0 && slices.ContainsFunc(list, func(p *resource.Object) bool { return p.Version > clean }):
		list = slices.DeleteFunc(list, func(p *resource.Object) bool { return p.Version <= clean })
	case slices.ContainsFunc(list, byHand):
		list = slices.DeleteFunc(list, func(p *resource.Object) bool { return !byHand(p) })
	case clean > 0:
		return nil // what changed was no policy
	}
	var out []string
	for _, p := range list[:min(len(list), maxSuspects)] {
		out = append(out, p.KRI().String())
	}
	return out
}

func (b *blame) shaping(s *session, x xds.Rejection) verdict {
	if b.s.cfg.Shaping == nil {
		return verdict{}
	}
	key := refused{s.proxy.ID.Mesh, x.Type, x.Name, x.Version}
	if v, ok := b.known[key]; ok {
		return v
	}
	var v verdict
	v.policies, v.ok = b.s.cfg.Shaping(b.s.cfg.View.Snapshot(), s.proxy.ProxyInfo, x.Type, x.Name, x.Version)
	if !v.ok {
		return v // the proxy is to have something else by now
	}
	if len(b.known) >= maxKnown {
		clear(b.known)
	}
	b.known[key] = v
	return v
}

// sorted is the oldest first, so that a bounded list stays the same.
func sorted(list []xds.Rejection) []xds.Rejection {
	return slices.SortedFunc(slices.Values(list), func(a, b xds.Rejection) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Type.String()+a.Name, b.Type.String()+b.Name)
	})
}

func shortened(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= maxWords {
		return text
	}
	return strings.ToValidUTF8(text[:maxWords], "") + "…"
}
