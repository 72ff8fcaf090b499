package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	api "github.com/atoll-mesh/atoll/api/client"
)

// pruning says what apply deletes.
type pruning struct {
	on       bool
	selector map[string]string
	limit    int
}

// owned is a resource of the server that the selector owns.
type owned struct{ target }

// prunable lists what is to be deleted, or fails before anything is changed.
func (a *app) prunable(ctx context.Context, cl *client, docs []*document, p *pruning) ([]owned, error) {
	if len(p.selector) == 0 {
		return nil, failWith(exitUsage, "--prune needs --selector: the labels of what the files own, such as team=payments")
	}
	kept := map[string]bool{}
	for _, d := range docs {
		t, err := a.targetOf(ctx, cl, d)
		if err != nil {
			return nil, err
		}
		labels, _ := d.value["labels"].(map[string]any)
		for key, want := range p.selector {
			if labels[key] != want {
				return nil, failWith(exitRejected, "%s: %s lacks the label %s=%s of --selector; without it, it could never be pruned", d.at("labels"), t, key, want)
			}
		}
		kept[t.String()] = true
	}
	all, err := a.ownedBy(ctx, cl, p.selector)
	if err != nil {
		return nil, err
	}
	gone := slices.DeleteFunc(slices.Clone(all), func(o owned) bool { return kept[o.String()] })
	var reason string
	switch {
	case len(gone) > p.limit:
		reason = fmt.Sprintf("%d resources would be deleted, more than --prune-limit %d", len(gone), p.limit)
	case len(gone) > 1 && len(gone) == len(all):
		reason = fmt.Sprintf("all %d resources that carry %s would be deleted", len(all), labelList(p.selector))
	default:
		return gone, nil
	}
	var b strings.Builder
	for _, o := range gone {
		fmt.Fprintf(&b, "\n  %s", o)
	}
	return nil, failWith(exitRejected, "nothing was changed, because %s. If that is meant, delete them with 'atollctl delete -f', or raise the limit:%s", reason, b.String())
}

func labelList(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ",")
}

// ownedBy lists the resources that carry labels and that can be deleted here,
// dependents before what they depend on.
func (a *app) ownedBy(ctx context.Context, cl *client, labels map[string]string) ([]owned, error) {
	kinds, err := cl.allKinds(ctx)
	if err != nil {
		return nil, err
	}
	origin, err := cl.origin(ctx)
	if err != nil {
		return nil, err
	}
	var out []owned
	for _, k := range kinds {
		if k.ReadOnly {
			continue
		}
		sel := selection{labels: labels}
		p, err := cl.pages(ctx, k.in(""), sel.query(), nil)
		if err != nil {
			if k.AdminOnly && isStatus(err, 403) {
				continue // not theirs to apply either
			}
			return nil, err
		}
		for _, doc := range p.items {
			var it item
			if err := json.Unmarshal(doc, &it); err != nil {
				return nil, err
			}
			if from := it.Labels["kuma.io/origin"]; from != "" && from != origin {
				continue // a copy of what another control plane owns
			}
			out = append(out, owned{target{k, it.Mesh, it.Name}})
		}
	}
	slices.SortStableFunc(out, func(x, y owned) int { return deleteRank(x.kind) - deleteRank(y.kind) })
	return out, nil
}

// deleteRank orders deletions: what lives in meshes goes before meshes.
func deleteRank(k kindInfo) int {
	switch {
	case k.Name == "Mesh":
		return 1
	case k.Scope == "Mesh":
		return 0
	}
	return 2
}

// origin is what resources that were made at this control plane are labelled with.
func (c *client) origin(ctx context.Context) (string, error) {
	var cfg struct{ Mode string }
	if err := read(c, &cfg, func(x *api.Client) (json.RawMessage, error) { return x.GetConfig(ctx) }); err != nil {
		return "", err
	}
	if cfg.Mode == "global" {
		return "global", nil
	}
	return "zone", nil
}

// prune deletes what prunable found, or lists it.
func (a *applying) prune(ctx context.Context, gone []owned) error {
	for _, o := range gone {
		note := ""
		switch a.dryRun {
		case dryRunClient:
			fmt.Fprintf(a.out, "# %s would be pruned\n", o)
			continue
		case dryRunServer:
			note = " (server dry run)"
			if err := o.remove(ctx, a.cl, api.WithDryRun(true)); err != nil && !isNotFound(err) {
				return err
			}
		default:
			if err := o.remove(ctx, a.cl); err != nil && !isNotFound(err) {
				return err
			}
		}
		fmt.Fprintf(a.out, "%s pruned%s\n", o, note)
	}
	return nil
}
