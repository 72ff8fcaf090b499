// Package compile turns a snapshot into the configuration of proxies. Proxies
// whose outbound inputs are equal share an audience, whose layer of listeners,
// routes, clusters and endpoints is compiled and encoded once; each proxy adds a
// small layer of its own.
//
// Work is proportional to a change. What was read is recorded by view.Reader and
// indexed, so that a touched key leads to the units that read it:
//
//	mesh      all its policies, indexed             *mesh
//	row       the endpoints of one port             *row
//	audience  destinations it reaches, policies     *audience
//	proxy     its Dataplane                         *Proxy
//
// Within an audience each destination is remembered by a digest of all that its
// resources depend on, for all audiences together, so that a change of one
// destination or policy makes its resources anew and no others.
//
// Build does all of this for one proxy from scratch, for inspection and as the
// truth that the engine is checked against.
package compile

import (
	"log/slog"

	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Settings are what the operator decides for all proxies.
type Settings struct {
	// InternalCIDRs are the ranges whose addresses HTTP filters take for internal
	// ones. Empty: loopback only.
	InternalCIDRs []string
}

// Config is what an Engine needs. All of it is required, but for Settings.
type Config struct {
	View     *view.View
	Policies []*policy.Def // in order of application
	Settings Settings
	Log      *slog.Logger
}

// Inputs are what compilation depends on besides a snapshot and a proxy.
type Inputs struct {
	Policies []*policy.Def
	Settings Settings
	Site     resource.Site
	// Shadow has Build also apply policies that are marked not to be applied
	// (kuma.io/effect: shadow), to show what they would do.
	Shadow bool
}
