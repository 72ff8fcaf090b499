package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// dataplaneViews are what can be asked about one proxy.
var dataplaneViews = []string{"policies", "rules", "layout", "config", "config-dump", "stats", "clusters", "overview", "rejections"}

func (a *app) inspectDataplaneCmd() *cobra.Command {
	var what string
	var eds, shadow bool
	var include []string
	c := &cobra.Command{
		Use:   "dataplane NAME",
		Short: "Show one proxy",
		Long: `Show one proxy. By --type:

  policies     the policies that select it
  rules        what they say, by inbound and by destination, the strongest policy
               last; with -o wide each field with the policy it came from
  layout       what it listens on and what it can call
  config       the Envoy configuration that its zone makes for it
  config-dump  the configuration that the running Envoy has
  stats        the counters of the running Envoy
  clusters     the endpoints as the running Envoy sees them
  overview     the Dataplane and what is known about its connection
  rejections   what its Envoy refuses, in its words, and which policies may have
               caused that; it goes on with what it accepted before

config is answered by the control plane of the proxy's zone only. With --shadow it
is made as if the policies labelled kuma.io/effect=shadow were in force, and with
--include diff it comes with what that would change.`,
		Example: `  atollctl inspect dataplane backend-1
  atollctl inspect dataplane backend-1 --type rules -o yaml
  atollctl inspect dataplane backend-1 --type config --shadow --include diff
  atollctl inspect dataplane backend-1 --type clusters`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			if !slices.Contains(dataplaneViews, what) {
				return failWith(exitUsage, "unknown --type %q; choose one of %s", what, strings.Join(dataplaneViews, ", "))
			}
			if err := a.checkOutput("wide", "jsonpath"); err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			var options []api.Option
			switch {
			case what == "config-dump" && eds:
				options = append(options, api.WithIncludeEds(true))
			case (what == "stats" || what == "clusters") && a.output != "table" && a.output != "wide":
				options = append(options, api.WithFormat("json"))
			case what == "rules" && a.output == "wide":
				options = append(options, api.WithInclude("fields"))
			case what == "config":
				if shadow {
					options = append(options, api.WithShadow(true))
				}
				if len(include) > 0 {
					options = append(options, api.WithInclude(strings.Join(include, ",")))
				}
			}
			got, err := cl.viewOf(cmd.Context(), what, a.mesh, given[0], options)
			if isNotFound(err) {
				return a.noSuchDataplane(cmd.Context(), cl, given[0], err)
			}
			if err != nil {
				return err
			}
			return a.showDataplane(what, got.body)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	f := c.Flags()
	f.StringVar(&what, "type", "policies", strings.Join(dataplaneViews, ", "))
	f.BoolVar(&eds, "include-eds", false, "of config-dump: with the endpoints")
	f.BoolVar(&shadow, "shadow", false, "of config: with the policies that are applied for show only")
	f.StringSliceVar(&include, "include", nil, "of config: diff")
	return c
}

// viewOf asks for one view of a proxy.
func (c *client) viewOf(ctx context.Context, what, mesh, name string, o []api.Option) (answer, error) {
	switch what {
	case "policies":
		return raw(c, func(x *api.Client) (api.GetMeshesMeshDataplanesNamePoliciesAnswer, error) {
			return x.GetMeshesMeshDataplanesNamePolicies(ctx, mesh, name, o...)
		})
	case "overview", "rejections":
		return raw(c, func(x *api.Client) (json.RawMessage, error) {
			return x.GetMeshesMeshKindNameItsOverview(ctx, mesh, dataplanesPath, name, o...)
		})
	case "config":
		return raw(c, func(x *api.Client) (api.GetMeshesMeshDataplanesNameItsConfigAnswer, error) {
			return x.GetMeshesMeshDataplanesNameItsConfig(ctx, mesh, name, o...)
		})
	case "rules":
		return raw(c, func(x *api.Client) (api.GetMeshesMeshDataplanesNameItsRulesAnswer, error) {
			return x.GetMeshesMeshDataplanesNameItsRules(ctx, mesh, name, o...)
		})
	case "layout":
		return raw(c, func(x *api.Client) (api.GetMeshesMeshDataplanesNameItsLayoutAnswer, error) {
			return x.GetMeshesMeshDataplanesNameItsLayout(ctx, mesh, name, o...)
		})
	case "config-dump":
		what = "xds"
	}
	return raw(c, func(x *api.Client) (string, error) {
		return x.GetMeshesMeshDataplanesNameQuestion(ctx, mesh, name, what, o...)
	})
}

func (a *app) showDataplane(what string, b []byte) error {
	switch kind, _, _ := strings.Cut(a.output, "="); {
	case kind == "jsonpath":
		return a.printPath(b)
	case kind != "table" && kind != "wide":
		return a.printJSON(b)
	case what == "policies":
		return a.policyTable(b)
	case what == "rejections":
		return a.rejectionTable(b)
	case what == "rules":
		return a.ruleTable(b)
	case what == "stats" || what == "clusters":
		_, err := fmt.Fprintf(a.out, "%s\n", strings.TrimRight(string(b), "\n"))
		return err
	case what == "config-dump" || what == "config":
		a.output = "json" // what people know Envoy's configuration as
	default:
		a.output = "yaml"
	}
	return a.printJSON(b)
}

func (a *app) policyTable(b []byte) error {
	var answer struct {
		Items []struct {
			Matched map[string][]item `json:"matchedPolicies"`
		}
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	var rows [][]string
	for _, i := range answer.Items {
		for _, kind := range slices.Sorted(maps.Keys(i.Matched)) {
			for _, p := range i.Matched[kind] {
				rows = append(rows, []string{kind, p.Name, orDash(p.Labels["kuma.io/zone"]), orDash(p.Labels["kuma.io/origin"])})
			}
		}
	}
	return a.printTable([]string{"POLICY", "NAME", "ZONE", "ORIGIN"}, rows)
}

// ruleField is where a field of a rule came from.
type ruleField struct {
	Path   string
	Value  any
	Policy string
	Index  int `json:"ruleIndex"`
}

// fieldRows adds the fields of a rule to its row.
func (a *app) fieldRows(rows [][]string, row []string, fields []ruleField) [][]string {
	if a.output != "wide" {
		return append(rows, row)
	}
	if len(fields) == 0 {
		return append(rows, append(row, "-", "-", "-"))
	}
	for _, f := range fields {
		from := "several"
		if f.Policy != "" {
			from = fmt.Sprintf("%s (item %d)", f.Policy, f.Index)
		}
		value, err := json.Marshal(f.Value)
		if err != nil {
			value = []byte("?")
		}
		rows = append(rows, append(slices.Clone(row), orDash(f.Path), string(value), from))
	}
	return rows
}

type ruleOrigins []struct {
	Meta item `json:"resourceMeta"`
}

func (r ruleOrigins) String() string {
	var names []string
	for _, o := range r {
		names = append(names, o.Meta.Name)
	}
	return orDash(strings.Join(slices.Compact(names), ", "))
}

func (a *app) ruleTable(b []byte) error {
	var answer struct {
		Rules []struct {
			Type  string
			Proxy *struct {
				Origin []item
				Fields []ruleField
			} `json:"proxyRule"`
			To []struct {
				Fields  []ruleField
				Origin  ruleOrigins
				Meta    item   `json:"resourceMeta"`
				Section string `json:"resourceSectionName"`
			} `json:"toResourceRules"`
			Inbound []struct {
				Inbound struct {
					Name string
					Port uint32
				}
				Rules []struct{ Origin ruleOrigins }
			} `json:"inboundRules"`
		}
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	var rows [][]string
	for _, r := range answer.Rules {
		if r.Proxy != nil {
			var names []string
			for _, o := range r.Proxy.Origin {
				names = append(names, o.Name)
			}
			rows = a.fieldRows(rows, []string{r.Type, "the proxy", orDash(strings.Join(names, ", "))}, r.Proxy.Fields)
		}
		for _, in := range r.Inbound {
			where := fmt.Sprintf("inbound %d", in.Inbound.Port)
			if in.Inbound.Name != "" {
				where = fmt.Sprintf("inbound %s (%d)", in.Inbound.Name, in.Inbound.Port)
			}
			for _, rule := range in.Rules {
				rows = a.fieldRows(rows, []string{r.Type, where, rule.Origin.String()}, nil)
			}
		}
		for _, to := range r.To {
			where := "to " + to.Meta.Type + " " + to.Meta.Name
			if to.Section != "" {
				where += ":" + to.Section
			}
			rows = a.fieldRows(rows, []string{r.Type, where, to.Origin.String()}, to.Fields)
		}
	}
	header := []string{"POLICY", "APPLIES TO", "FROM"}
	if a.output == "wide" {
		header = append(header, "FIELD", "VALUE", "BECAUSE OF")
	}
	return a.printTable(header, rows)
}
