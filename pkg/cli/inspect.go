package cli

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) inspectCmd() *cobra.Command {
	return group("inspect", "Show how zones, meshes and proxies are doing",
		`  atollctl inspect zones
  atollctl inspect dataplanes -m shop
  atollctl inspect dataplane backend-1 --type config`,
		a.inspectZonesCmd(), a.inspectMeshesCmd(), a.inspectDataplanesCmd(), a.inspectDataplaneCmd())
}

type kdsStats struct {
	Sent     counter `json:"responsesSent"`
	Rejected counter `json:"responsesRejected"`
}

// counter is a 64-bit number, which protobuf's JSON writes as a string.
type counter uint64

func (c *counter) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseUint(strings.Trim(string(b), `"`), 10, 64)
	*c = counter(n)
	return err
}

type syncDirection struct {
	GlobalRevision  counter `json:"globalRevision"`
	AppliedRevision counter `json:"appliedRevision"`
	LagSeconds      float64 `json:"lagSeconds"`
	Kinds           map[string]struct {
		Rejected []struct{ Name, Reason string }
	} `json:"kinds"`
}

type subscription struct {
	ConnectTime    time.Time `json:"connectTime"`
	DisconnectTime time.Time `json:"disconnectTime"`
	Config         string    `json:"config"`
	Status         struct {
		LastUpdateTime time.Time `json:"lastUpdateTime"`
		Total          kdsStats  `json:"total"`
	} `json:"status"`
	Version struct {
		KumaCp struct{ Version string }
		KumaDp struct{ Version string }
		Envoy  struct{ Version string }
	} `json:"version"`
}

// newest returns the last subscription and whether any is open.
func newest(subs []subscription) (last subscription, online bool) {
	for _, s := range subs {
		if !s.ConnectTime.IsZero() && s.DisconnectTime.IsZero() {
			online = true
		}
		last = s
	}
	return last, online
}

func (a *app) inspectZonesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "zones",
		Short:   "Show the zones: connected or not, how far behind, what they rejected",
		Example: `  atollctl inspect zones`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, total, err := a.overviews(cmd, "/zones/_overview", nil)
			if err != nil || items == nil {
				return err
			}
			if a.output != "table" {
				return a.printList(items, total)
			}
			var rows [][]string
			for _, raw := range items {
				var z struct {
					Name string
					Zone struct {
						Enabled *bool `json:"enabled"`
					}
					Insight struct {
						Subscriptions []subscription
						Sync          struct {
							GlobalToZone syncDirection `json:"globalToZone"`
							ZoneToGlobal syncDirection `json:"zoneToGlobal"`
						}
					} `json:"zoneInsight"`
				}
				if err := json.Unmarshal(raw, &z); err != nil {
					return err
				}
				last, online := newest(z.Insight.Subscriptions)
				status := "Offline"
				if z.Zone.Enabled != nil && !*z.Zone.Enabled {
					status = "Disabled"
				} else if online {
					status = "Online"
				}
				var cfg struct{ Store struct{ Type string } }
				_ = json.Unmarshal([]byte(last.Config), &cfg) // absent from zones that never connected
				rejected := 0
				for _, dir := range []syncDirection{z.Insight.Sync.GlobalToZone, z.Insight.Sync.ZoneToGlobal} {
					for _, k := range dir.Kinds {
						rejected += len(k.Rejected)
					}
				}
				rows = append(rows, []string{
					z.Name, status, lag(z.Insight.Sync.GlobalToZone), lag(z.Insight.Sync.ZoneToGlobal), strconv.Itoa(rejected),
					age(last.ConnectTime), age(last.Status.LastUpdateTime),
					fmt.Sprint(last.Status.Total.Sent), fmt.Sprint(last.Status.Total.Rejected),
					orDash(last.Version.KumaCp.Version), orDash(cfg.Store.Type),
				})
			}
			return a.printTable([]string{
				"NAME", "STATUS", "LAG TO ZONE", "LAG TO GLOBAL", "REJECTED", "LAST CONNECTED AGO", "LAST UPDATED AGO",
				"TOTAL UPDATES", "TOTAL ERRORS", "ZONE-CP VERSION", "BACKEND",
			}, rows)
		},
	}
	a.outputFlag(c)
	return c
}

// lag says how far a direction is behind: revisions and seconds.
func lag(d syncDirection) string {
	if d.GlobalRevision == 0 && d.AppliedRevision == 0 {
		return "-"
	}
	behind := uint64(0)
	if d.GlobalRevision > d.AppliedRevision {
		behind = uint64(d.GlobalRevision - d.AppliedRevision)
	}
	if behind == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.1fs)", behind, d.LagSeconds)
}

func (a *app) overviews(cmd *cobra.Command, path string, q url.Values) ([]json.RawMessage, int, error) {
	if err := a.checkOutput(); err != nil {
		return nil, 0, err
	}
	cl, err := a.connect()
	if err != nil {
		return nil, 0, err
	}
	if q == nil {
		q = url.Values{}
	}
	items, total, err := cl.list(cmd.Context(), strings.ReplaceAll(path, "{mesh}", url.PathEscape(a.mesh)), q)
	if items == nil && err == nil {
		items = []json.RawMessage{}
	}
	return items, total, err
}

// proxy is one element of /dataplanes/_overview.
type proxy struct {
	Mesh, Name string
	Labels     map[string]string
	Dataplane  struct {
		Networking struct {
			Address string
			Gateway *struct{}
			Inbound []struct {
				State  string
				Health *struct{ Ready bool }
			}
			Listeners []struct{ State string }
		}
	}
	Insight struct{ Subscriptions []subscription } `json:"dataplaneInsight"`
}

// status is what people are told of a proxy.
func (p *proxy) status() string {
	_, online := newest(p.Insight.Subscriptions)
	if p.Dataplane.Networking.Gateway != nil {
		if online {
			return "Online"
		}
		return "Offline"
	}
	ready, total := 0, 0
	for _, in := range p.Dataplane.Networking.Inbound {
		total++
		if in.State != "NotReady" && (in.Health == nil || in.Health.Ready) {
			ready++
		}
	}
	for _, l := range p.Dataplane.Networking.Listeners {
		total++
		if l.State != "NotReady" {
			ready++
		}
	}
	switch {
	case !online || ready == 0:
		return "Offline"
	case ready < total:
		return "Partially degraded"
	}
	return "Online"
}

func (a *app) inspectDataplanesCmd() *cobra.Command {
	var tags map[string]string
	c := &cobra.Command{
		Use:     "dataplanes",
		Short:   "Show the proxies of a mesh: connected or not, ready or not, versions",
		Example: `  atollctl inspect dataplanes -m shop --tag app=backend`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q := url.Values{}
			for k, v := range tags {
				q.Add("tag", k+":"+v)
			}
			items, total, err := a.overviews(cmd, "/meshes/{mesh}/dataplanes/_overview", q)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printList(items, total)
			}
			var rows [][]string
			for _, raw := range items {
				var p proxy
				if err := json.Unmarshal(raw, &p); err != nil {
					return err
				}
				last, _ := newest(p.Insight.Subscriptions)
				rows = append(rows, []string{
					p.Mesh, p.Name, orDash(p.Labels["kuma.io/zone"]), p.status(), p.Dataplane.Networking.Address, age(last.ConnectTime),
					age(last.Status.LastUpdateTime), fmt.Sprint(last.Status.Total.Sent), fmt.Sprint(last.Status.Total.Rejected),
					orDash(last.Version.KumaDp.Version), orDash(last.Version.Envoy.Version),
				})
			}
			return a.printTable([]string{
				"MESH", "NAME", "ZONE", "STATUS", "ADDRESS", "LAST CONNECTED AGO", "LAST UPDATED AGO",
				"TOTAL UPDATES", "TOTAL ERRORS", "DP VERSION", "ENVOY VERSION",
			}, rows)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	c.Flags().StringToStringVar(&tags, "tag", nil, "only proxies with this label: key=value")
	return c
}

func (a *app) inspectMeshesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "meshes",
		Short:   "Show the meshes and how many of their proxies are online",
		Example: `  atollctl inspect meshes`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, total, err := a.overviews(cmd, "/meshes", nil)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.printList(items, total)
			}
			proxies, _, err := a.overviews(cmd, "/dataplanes/_overview", nil)
			if err != nil {
				return err
			}
			online, all := map[string]int{}, map[string]int{}
			for _, raw := range proxies {
				var p proxy
				if err := json.Unmarshal(raw, &p); err != nil {
					return err
				}
				all[p.Mesh]++
				if p.status() != "Offline" {
					online[p.Mesh]++
				}
			}
			var rows [][]string
			for _, raw := range items {
				var m item
				if err := json.Unmarshal(raw, &m); err != nil {
					return err
				}
				rows = append(rows, []string{m.Name, fmt.Sprintf("%d/%d", online[m.Name], all[m.Name]), age(m.CreationTime)})
			}
			return a.printTable([]string{"MESH", "DATAPLANES", "AGE"}, rows)
		},
	}
	a.outputFlag(c)
	return c
}

func (a *app) inspectDataplaneCmd() *cobra.Command {
	var what string
	c := &cobra.Command{
		Use:   "dataplane NAME",
		Short: "Show one proxy",
		Long: `Show one proxy: its overview, or the Envoy configuration that its zone made for
it (--type config, asked of the zone's control plane).`,
		Example: `  atollctl inspect dataplane backend-1
  atollctl inspect dataplane backend-1 --type config`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			tail, ok := map[string]string{"overview": "/_overview", "config": "/_config", "policies": "/_policies"}[what]
			if !ok {
				return failWith(exitUsage, "unknown --type %q; choose overview, policies or config", what)
			}
			if err := a.checkOutput(); err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			b, err := cl.do(cmd.Context(), "GET", "/meshes/"+url.PathEscape(a.mesh)+"/dataplanes/"+url.PathEscape(given[0])+tail, nil)
			if err != nil {
				return err
			}
			if a.output == "table" {
				a.output = "yaml" // one proxy is no table
			}
			return a.printJSON(b)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	c.Flags().StringVar(&what, "type", "overview", "overview, policies or config")
	return c
}
