package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
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
}

func (a *app) getCmd() *cobra.Command {
	var size, offset, name string
	var labels map[string]string
	var allMeshes bool
	c := &cobra.Command{
		Use:   "get KIND [NAME]",
		Short: "Show resources",
		Long: `Show the resources of a kind in a mesh, or one of them.

A kind is named by its type (MeshTimeout), plural (meshtimeouts), singular
(meshtimeout) or short name (mt). All resources are shown unless --size asks for
a page.`,
		Example: `  atollctl get meshes
  atollctl get meshtimeouts -m shop -o yaml
  atollctl get dataplanes --all-meshes -l app=backend
  atollctl get mt slow-reports -o json`,
		Args: args(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := a.checkOutput("wide", "name"); err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			k, err := cl.kindByName(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			if len(given) == 2 {
				return a.getOne(cmd, cl, k, given[1])
			}
			q := url.Values{}
			if size != "" {
				q.Set("size", size)
			}
			if offset != "" {
				q.Set("offset", offset)
			}
			if name != "" {
				q.Set("name", name)
			}
			for key, v := range labels {
				q.Set("filter[labels."+key+"]", v)
			}
			mesh := a.mesh
			if allMeshes {
				mesh = ""
			}
			items, total, err := cl.list(cmd.Context(), k.listPath(mesh), q)
			if err != nil {
				return err
			}
			return a.show(k, items, total)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	c.Flags().BoolVarP(&allMeshes, "all-meshes", "A", false, "of all meshes")
	c.Flags().StringVar(&size, "size", "", "show one page of this many")
	c.Flags().StringVar(&offset, "offset", "", "where the page begins")
	c.Flags().StringVar(&name, "name", "", "only those whose name contains this")
	c.Flags().StringToStringVarP(&labels, "label", "l", nil, "only those with this label: key=value")
	return c
}

func (a *app) getOne(cmd *cobra.Command, cl *client, k kindInfo, name string) error {
	b, err := cl.do(cmd.Context(), "GET", k.itemPath(a.mesh, name), nil)
	if isNotFound(err) {
		where := ""
		if k.Scope == "Mesh" {
			where = " in mesh " + strconv.Quote(a.mesh)
		}
		return failWith(exitNotFound, "there is no %s with name %q%s", k.Name, name, where)
	}
	if err != nil {
		return err
	}
	switch a.output {
	case "json", "yaml":
		return a.printJSON(b)
	}
	return a.show(k, []json.RawMessage{b}, 1)
}

func (a *app) show(k kindInfo, raw []json.RawMessage, total int) error {
	if a.output == "json" || a.output == "yaml" {
		return a.printList(raw, total)
	}
	items := make([]item, len(raw))
	for i, r := range raw {
		if err := json.Unmarshal(r, &items[i]); err != nil {
			return err
		}
	}
	if a.output == "name" {
		for _, it := range items {
			fmt.Fprintf(a.out, "%s/%s\n", k.Path, it.Name)
		}
		return nil
	}
	wide := a.output == "wide"
	var header []string
	if k.Scope == "Mesh" {
		header = append(header, "MESH")
	}
	header = append(header, "NAME")
	if k.Name == "Dataplane" {
		header = append(header, "TAGS", "ADDRESS")
	}
	if wide {
		header = append(header, "ZONE", "ORIGIN", "KRI")
	}
	header = append(header, "AGE")
	rows := make([][]string, len(items))
	for i, it := range items {
		var r []string
		if k.Scope == "Mesh" {
			r = append(r, it.Mesh)
		}
		r = append(r, it.Name)
		if k.Name == "Dataplane" {
			r = append(r, orDash(labelText(it.Labels)), it.Networking.Address)
		}
		if wide {
			r = append(r, orDash(it.Labels["kuma.io/zone"]), orDash(it.Labels["kuma.io/origin"]), orDash(it.KRI))
		}
		rows[i] = append(r, age(it.ModificationTime))
	}
	return a.printTable(header, rows)
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
