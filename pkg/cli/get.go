package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// item is what tables show of any resource.
type item struct {
	Type             string            `json:"type"`
	Mesh             string            `json:"mesh"`
	Name             string            `json:"name"`
	CreationTime     time.Time         `json:"creationTime"`
	ModificationTime time.Time         `json:"modificationTime"`
	Labels           map[string]string `json:"labels"`
	KRI              string            `json:"kri"`
	Networking       struct {
		Address string `json:"address"`
	} `json:"networking"`
	Status struct {
		Conditions []condition `json:"conditions"`
	} `json:"status"`
}

type condition struct {
	Type, Status string
}

// verdict is what proxies say of a policy.
func (it *item) verdict() string {
	for _, c := range it.Status.Conditions {
		if c.Type == "Rejected" && c.Status == "True" {
			return "Rejected"
		}
	}
	return "-"
}

// selection is which resources of a kind are asked for.
type selection struct {
	size, offset, name, at string
	labels                 map[string]string
	allMeshes, watch       bool
}

func (s *selection) query() url.Values {
	q := url.Values{}
	for key, v := range map[string]string{"size": s.size, "offset": s.offset, "name": s.name, "at": s.at} {
		if v != "" {
			q.Set(key, v)
		}
	}
	for key, v := range s.labels {
		q.Set("filter[labels."+key+"]", v)
	}
	return q
}

func (a *app) getCmd() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "Show resources",
		Long: `Show the resources of a kind in a mesh, or one of them.

A kind is named by its type (MeshTimeout), plural (meshtimeouts), singular
(meshtimeout) or short name (mt); 'atollctl explain' lists them. All resources
are shown unless --size asks for a page.

With -w it goes on and shows each resource that changes, until it is interrupted.

A template for -o jsonpath holds text and paths in braces: {.spec.to[0]},
{.labels['kuma.io/zone']}, {range .items[*]}{.name}{"\n"}{end}.`,
		Example: `  atollctl get meshes
  atollctl get meshtimeouts -m shop -o yaml
  atollctl get dataplanes --all-meshes -l app=backend -w
  atollctl get dp -o jsonpath='{range .items[*]}{.name} {.networking.address}{"\n"}{end}'
  atollctl get mt slow-reports -o json`,
		Args:              args(cobra.RangeArgs(1, 2)),
		ValidArgsFunction: a.completeResource,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := a.checkOutput("wide", "name", "jsonpath"); err != nil {
				return err
			}
			if _, path, ok := strings.Cut(a.output, "="); ok {
				if _, err := parseTemplate(path); err != nil {
					return err
				}
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			k, err := cl.kindByName(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			name := ""
			if len(given) == 2 {
				name = given[1]
			}
			if sel.watch {
				return a.watch(cmd.Context(), cl, k, name, &sel)
			}
			if name != "" {
				return a.getOne(cmd.Context(), cl, k, name, &sel)
			}
			p, err := cl.pages(cmd.Context(), k.in(a.meshOf(&sel)), sel.query(), nil)
			if err != nil {
				return err
			}
			return a.show(k, p)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	f := c.Flags()
	f.BoolVarP(&sel.allMeshes, "all-meshes", "A", false, "of all meshes")
	f.StringVar(&sel.size, "size", "", "show one page of this many")
	f.StringVar(&sel.offset, "offset", "", "where the page begins")
	f.StringVar(&sel.name, "name", "", "only those whose name contains this")
	f.StringToStringVarP(&sel.labels, "label", "l", nil, "only those with this label: key=value")
	f.StringVar(&sel.at, "at", "", "as it was at this revision or time (RFC 3339)")
	f.BoolVarP(&sel.watch, "watch", "w", false, "go on and show what changes")
	return c
}

// meshOf is the mesh that lists are limited to; empty: none.
func (a *app) meshOf(sel *selection) string {
	if sel.allMeshes {
		return ""
	}
	return a.mesh
}

func (a *app) getOne(ctx context.Context, cl *client, k kindInfo, name string, sel *selection) error {
	got, err := target{k, a.mesh, name}.get(ctx, cl, api.WithQuery(sel.query()))
	if isNotFound(err) {
		return a.noSuchHere(ctx, cl, k, name)
	}
	if err != nil {
		return err
	}
	switch kind, _, _ := strings.Cut(a.output, "="); kind {
	case "json", "yaml":
		return a.printJSON(got.body)
	case "jsonpath":
		return a.printPath(got.body)
	}
	return a.show(k, page{items: []json.RawMessage{got.body}, total: 1})
}

func (a *app) noSuch(k kindInfo, name string) error {
	where := ""
	if k.Scope == "Mesh" {
		where = " in mesh " + strconv.Quote(a.mesh)
	}
	return failWith(exitNotFound, "there is no %s with name %q%s", k.Name, name, where)
}

func (a *app) show(k kindInfo, p page) error {
	kind, _, _ := strings.Cut(a.output, "=")
	switch kind {
	case "json", "yaml":
		return a.printList(p.items, p.total)
	case "jsonpath":
		b, err := listJSON(p.items, p.total)
		if err != nil {
			return err
		}
		return a.printPath(b)
	}
	items := make([]item, len(p.items))
	for i, r := range p.items {
		if err := json.Unmarshal(r, &items[i]); err != nil {
			return err
		}
	}
	if kind == "name" {
		for _, it := range items {
			fmt.Fprintf(a.out, "%s/%s\n", k.Path, it.Name)
		}
		return nil
	}
	rows := make([][]string, len(items))
	for i := range items {
		rows[i] = a.row(k, &items[i])
	}
	if err := a.printTable(a.columns(k), rows); err != nil {
		return err
	}
	if p.next != "" {
		fmt.Fprintf(a.err, "%d of %d are shown; the next page begins at --offset %s\n", len(items), p.total, p.next)
	}
	return nil
}

// columns are the heads of the table of a kind; row fills them.
func (a *app) columns(k kindInfo) []string {
	var out []string
	if k.Scope == "Mesh" {
		out = append(out, "MESH")
	}
	out = append(out, "NAME")
	if k.Name == "Dataplane" {
		out = append(out, "TAGS", "ADDRESS")
	}
	if a.output == "wide" {
		out = append(out, "ZONE", "ORIGIN", "KRI")
		if k.Policy != nil {
			out = append(out, "STATUS")
		}
	}
	return append(out, "AGE")
}

func (a *app) row(k kindInfo, it *item) []string {
	var out []string
	if k.Scope == "Mesh" {
		out = append(out, it.Mesh)
	}
	out = append(out, it.Name)
	if k.Name == "Dataplane" {
		out = append(out, orDash(labelText(it.Labels)), orDash(it.Networking.Address))
	}
	if a.output == "wide" {
		out = append(out, orDash(it.Labels["kuma.io/zone"]), orDash(it.Labels["kuma.io/origin"]), orDash(it.KRI))
		if k.Policy != nil {
			out = append(out, it.verdict())
		}
	}
	return append(out, age(it.ModificationTime))
}

// labelText lists the labels that the user gave, in order.
func labelText(labels map[string]string) string {
	var parts []string
	for k, v := range labels {
		if !strings.HasPrefix(k, "kuma.io/") && !strings.HasPrefix(k, "k8s.kuma.io/") {
			parts = append(parts, k+"="+v)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
