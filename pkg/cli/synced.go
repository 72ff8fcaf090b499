package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
)

// noSuchDataplane explains a 404: the resource may be there under the name that
// sync gave it, or be there and have no connection yet.
func (a *app) noSuchDataplane(ctx context.Context, cl *client, name string, answer error) error {
	k, err := cl.kindByName(ctx, "Dataplane")
	if err != nil {
		return answer
	}
	if _, err := (target{k, a.mesh, name}).get(ctx, cl); !isNotFound(err) {
		return answer
	}
	return a.noSuchHere(ctx, cl, k, name)
}

// noSuchHere is noSuch, with those that were created under this name elsewhere:
// sync stores them under names that are unique in the whole mesh.
func (a *app) noSuchHere(ctx context.Context, cl *client, k kindInfo, name string) error {
	missing := a.noSuch(k, name)
	q := url.Values{"filter[labels.kuma.io/display-name]": {name}, "size": {"10"}}
	items, _, err := cl.list(ctx, k.in(a.mesh), q)
	if err != nil || len(items) == 0 {
		return missing
	}
	var b strings.Builder
	for _, raw := range items {
		var it item
		if json.Unmarshal(raw, &it) == nil {
			fmt.Fprintf(&b, "\n  %s (zone %s)", it.Name, orDash(it.Labels["kuma.io/zone"]))
		}
	}
	return failWith(exitNotFound, "%w; created under this name elsewhere and known here as:%s", missing, b.String())
}
