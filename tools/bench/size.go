package main

import (
	"context"
	"fmt"
	"strings"
)

// size is a case of proxies. Proxy i belongs to service i mod services and
// reaches that many services after its own, so that the proxies of a service
// reach the same.
type size struct {
	proxies, services int
	reach             int  // services that a proxy reaches
	secured           bool // mutual TLS and an access log on every proxy
}

// parseSize reads a case: "10000x200/10+mtls".
func parseSize(text string) (size, error) {
	var c size
	rest, secured := strings.CutSuffix(text, "+mtls")
	c.secured = secured
	rest, reach, some := strings.Cut(rest, "/")
	if _, err := fmt.Sscanf(rest, "%dx%d", &c.proxies, &c.services); err != nil || c.proxies < 1 || c.services < 1 {
		return c, fmt.Errorf("size %q is not like 1000x100, 10000x200/10 or 1000x100+mtls", text)
	}
	c.reach = c.services
	if some {
		if _, err := fmt.Sscan(reach, &c.reach); err != nil || c.reach < 1 || c.reach > c.services {
			return c, fmt.Errorf("size %q: %q is not a number of services from 1 to %d", text, reach, c.services)
		}
	}
	return c, nil
}

// flag is the text of which parseSize makes c.
func (c size) flag() string {
	s := fmt.Sprintf("%dx%d", c.proxies, c.services)
	if c.reach < c.services {
		s += fmt.Sprintf("/%d", c.reach)
	}
	if c.secured {
		s += "+mtls"
	}
	return s
}

// reaches reports whether proxy i reaches a service.
func (c size) reaches(i, service int) bool {
	return (service-i%c.services+c.services-1)%c.services < c.reach
}

// endpoints are how many proxy i has when the first n proxies exist.
func (c size) endpoints(i, n int) int {
	if c.reach == c.services {
		return n
	}
	total := 0
	for k := range c.reach {
		s := (i + 1 + k) % c.services
		total += (n - s + c.services - 1) / c.services
	}
	return total
}

func (c size) dataplane(i int) map[string]any {
	dp := dataplane(i, i%c.services)
	if c.reach < c.services {
		var refs []any
		for k := range c.reach {
			refs = append(refs, map[string]any{"kind": "MeshService", "name": serviceName((i + 1 + k) % c.services)})
		}
		networking := dp["networking"].(map[string]any)
		networking["transparentProxying"].(map[string]any)["reachableBackends"] = map[string]any{"refs": refs}
	}
	return dp
}

// secure gives the mesh identities, strict mutual TLS and an access log, before
// there are proxies.
func secure(ctx context.Context, cp *controlPlane) error {
	for path, body := range map[string]map[string]any{
		"meshidentities/bench": {
			"type": "MeshIdentity",
			"spec": map[string]any{
				"selector": map[string]any{"dataplane": map[string]any{"matchLabels": map[string]any{}}},
				"provider": map[string]any{"type": "Bundled", "bundled": map[string]any{
					"autogenerate": map[string]any{"enabled": true}, "insecureAllowSelfSigned": true, "meshTrustCreation": "Enabled",
				}},
			},
		},
		"meshtlses/bench": {
			"type": "MeshTLS",
			"spec": map[string]any{"rules": []any{map[string]any{"default": map[string]any{"mode": "Strict"}}}},
		},
		"meshaccesslogs/bench": {
			"type": "MeshAccessLog",
			"spec": map[string]any{"to": []any{map[string]any{"targetRef": map[string]any{"kind": "Mesh"}, "default": logToFile}}},
		},
		"meshaccesslogs/bench-servers": {
			"type": "MeshAccessLog",
			"spec": map[string]any{"rules": []any{map[string]any{"default": logToFile}}},
		},
	} {
		_, name, _ := strings.Cut(path, "/")
		body["mesh"], body["name"] = "default", name
		if err := cp.put(ctx, "/meshes/default/"+path, body); err != nil {
			return err
		}
	}
	return nil
}

var logToFile = map[string]any{"backends": []any{map[string]any{"type": "File", "file": map[string]any{"path": "/dev/null"}}}}
