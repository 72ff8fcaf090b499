package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// agentName names the listener from which an agent reads its part of the
// configuration, and the routes of that listener.
const agentName = "system_dynamicconfig"

// Configure tells the agent of the proxy something under a path, such as
// meshmetric or dns, instead of what was told there before. Envoy answers for it on a unix socket, with an Etag, so that
// it travels and becomes effective as all other configuration does. It does
// nothing for an agent that has no such socket.
func (o *Own) Configure(path string, conf any) {
	if o.Facts == nil || o.ConfigSocket == "" {
		return
	}
	body := encode(conf)
	sum := sha256.Sum256(body)
	etag := hex.EncodeToString(sum[:])
	routes := o.agentRoutes()
	name := agentName + "_" + path
	routes.Routes = slices.DeleteFunc(routes.Routes, func(r *ir.Route) bool { return r.Match.Path == "/"+path })
	routes.Routes = append(routes.Routes,
		&ir.Route{
			Name:   name + "_not_modified",
			Match:  ir.RouteMatch{Path: "/" + path, Headers: []ir.ValueMatch{{Name: "if-none-match", Kind: ir.MatchExact, Value: etag}}},
			Direct: &ir.Direct{Status: http.StatusNotModified}, ResponseHeaders: etagHeader(etag),
		},
		&ir.Route{
			Name: name, Match: ir.RouteMatch{Path: "/" + path},
			Direct: &ir.Direct{Status: http.StatusOK, Body: string(body)}, ResponseHeaders: etagHeader(etag),
		})
	if n := uint32(len(body)); n > 4096 && n > routes.MaxBody {
		routes.MaxBody = n
	}
}

func etagHeader(etag string) ir.HeaderOps {
	return ir.HeaderOps{Set: []ir.Header{{Name: "etag", Value: etag}}}
}

func (o *Own) agentRoutes() *ir.RouteConfig {
	at := slices.IndexFunc(o.Routes, func(c *ir.RouteConfig) bool { return c.Name == agentName })
	if at >= 0 {
		return o.Routes[at]
	}
	routes := &ir.RouteConfig{Name: agentName, VirtualHost: agentName}
	o.Routes = append(o.Routes, routes)
	o.Listeners = append(o.Listeners, &ir.Listener{
		Name: agentName, Socket: o.ConfigSocket,
		Chains: []*ir.Chain{{HTTP: &ir.HTTP{StatPrefix: agentName, RouteConfig: agentName, InternalCIDRs: []string{"127.0.0.1/32"}}}},
	})
	return routes
}

// SocketPath is a unix socket in an agent's folder. The path is cut where agents
// cut it: unix limits the whole to 107 bytes.
func SocketPath(workdir, name string) string {
	p := filepath.Join(workdir, name)
	if len(p) > 98 {
		p = p[:98]
	}
	return p + ".sock"
}
