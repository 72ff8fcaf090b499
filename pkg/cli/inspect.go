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
	c := group("inspect", "Show how zones, meshes, services and proxies are doing",
		`  atollctl inspect zones
  atollctl inspect dataplanes -m shop
  atollctl inspect dataplane backend-1 --type config
  atollctl inspect meshtimeout slow-reports -m shop`,
		a.inspectZonesCmd(), a.inspectMeshesCmd(), a.inspectServicesCmd(), a.inspectDataplanesCmd(), a.inspectDataplaneCmd())
	c.Use = "inspect (WHAT | POLICY NAME)"
	c.Long = `Show how zones, meshes, services and proxies are doing.

With a kind of policy and a name, show the proxies that the policy selects.`
	a.meshFlag(c)
	a.outputFlag(c)
	c.Flags().Bool("new-api", true, "accepted for scripts written for kumactl")
	_ = c.Flags().MarkHidden("new-api")
	c.RunE = func(cmd *cobra.Command, given []string) error {
		switch len(given) {
		case 0:
			return cmd.Help()
		case 1:
			return failWith(exitUsage, "unknown command %q for %q; a policy needs a name too\nSee '%s --help'", given[0], cmd.CommandPath(), cmd.CommandPath())
		}
		return a.inspectPolicy(cmd, given[0], given[1])
	}
	return c
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

// zoneState is one element of /zones/_overview.
type zoneState struct {
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

func (z *zoneState) status() string {
	_, online := newest(z.Insight.Subscriptions)
	switch {
	case z.Zone.Enabled != nil && !*z.Zone.Enabled:
		return "Disabled"
	case online:
		return "Online"
	}
	return "Offline"
}

func (a *app) inspectZonesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "zones",
		Short:   "Show the zones: connected or not, how far behind, what they rejected, who reaches whom",
		Example: `  atollctl inspect zones`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, total, err := a.overviews(cmd, func() listing { return overviewsIn("", zonesPath) }, nil)
			if err != nil || items == nil {
				return err
			}
			if a.output != "table" && a.output != "wide" {
				return a.printList(items, total)
			}
			var rows [][]string
			for _, raw := range items {
				var z zoneState
				if err := json.Unmarshal(raw, &z); err != nil {
					return err
				}
				last, _ := newest(z.Insight.Subscriptions)
				var cfg struct{ Store struct{ Type string } }
				_ = json.Unmarshal([]byte(last.Config), &cfg) // absent from zones that never connected
				rejected := 0
				for _, dir := range []syncDirection{z.Insight.Sync.GlobalToZone, z.Insight.Sync.ZoneToGlobal} {
					for _, k := range dir.Kinds {
						rejected += len(k.Rejected)
					}
				}
				rows = append(rows, []string{
					z.Name, z.status(), lag(z.Insight.Sync.GlobalToZone), lag(z.Insight.Sync.ZoneToGlobal), strconv.Itoa(rejected),
					age(last.ConnectTime), age(last.Status.LastUpdateTime),
					fmt.Sprint(last.Status.Total.Sent), fmt.Sprint(last.Status.Total.Rejected),
					orDash(last.Version.KumaCp.Version), orDash(cfg.Store.Type),
				})
			}
			err = a.printTable([]string{
				"NAME", "STATUS", "LAG TO ZONE", "LAG TO GLOBAL", "REJECTED", "LAST CONNECTED AGO", "LAST UPDATED AGO",
				"TOTAL UPDATES", "TOTAL ERRORS", "ZONE-CP VERSION", "BACKEND",
			}, rows)
			if err != nil {
				return err
			}
			return a.printZoneLinks(cmd.Context())
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

// overviews reads a list that of names; the mesh is known by then.
func (a *app) overviews(cmd *cobra.Command, of func() listing, q url.Values) ([]json.RawMessage, int, error) {
	if err := a.checkOutput("wide"); err != nil {
		return nil, 0, err
	}
	cl, err := a.connect()
	if err != nil {
		return nil, 0, err
	}
	items, total, err := cl.list(cmd.Context(), of(), q)
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
	Insight struct {
		Subscriptions []subscription
		MTLS          struct {
			Expires time.Time `json:"certificateExpirationTime"`
			Count   uint32    `json:"certificateRegenerations"`
			Backend string    `json:"issuedBackend"`
		} `json:"mTLS"`
	} `json:"dataplaneInsight"`
}

// certificate says of what a proxy proves who it is with: the identity, how long
// it is good for, and how many came before.
func (p *proxy) certificate() []string {
	m := p.Insight.MTLS
	if m.Backend == "" {
		return []string{"-", "-", "-"}
	}
	return []string{m.Backend, until(m.Expires), strconv.FormatUint(uint64(m.Count), 10)}
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
	var gateway, ingress bool
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
			if gateway {
				q.Set("gateway", "true")
			}
			items, total, err := a.overviews(cmd, func() listing { return overviewsIn(a.mesh, dataplanesPath) }, q)
			if err != nil {
				return err
			}
			if a.output != "table" && a.output != "wide" {
				return a.printList(items, total)
			}
			header := []string{
				"MESH", "NAME", "ZONE", "STATUS", "ADDRESS", "LAST CONNECTED AGO", "LAST UPDATED AGO",
				"TOTAL UPDATES", "TOTAL ERRORS", "DP VERSION", "ENVOY VERSION",
			}
			if a.output == "wide" {
				header = append(header, "TAGS", "IDENTITY", "CERT EXPIRES IN", "CERTS ISSUED")
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
				if a.output == "wide" {
					more := append([]string{orDash(labelText(p.Labels))}, p.certificate()...)
					rows[len(rows)-1] = append(rows[len(rows)-1], more...)
				}
			}
			return a.printTable(header, rows)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	c.Flags().StringToStringVar(&tags, "tag", nil, "only proxies with this label: key=value")
	c.Flags().BoolVar(&gateway, "gateway", false, "only gateways")
	c.Flags().BoolVar(&ingress, "ingress", false, "accepted for scripts written for kumactl; zone proxies are shown with the others")
	_ = c.Flags().MarkHidden("ingress")
	return c
}
