package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// drained names a service in a request.
type drained struct {
	Mesh string `json:"mesh"`
	Name string `json:"name"`
}

// drainBody asks for a drain or its end.
type drainBody struct {
	Services []drained `json:"services,omitempty"`
	Ramp     string    `json:"ramp,omitempty"`
	Timeout  string    `json:"timeout,omitempty"`
	Force    bool      `json:"force,omitempty"`
}

// drainProgress is how far the drains of a zone are.
type drainProgress struct {
	Zone   string       `json:"zone"`
	Drains []drainState `json:"drains"`
}

type drainState struct {
	Mesh        string   `json:"mesh"`
	Service     string   `json:"service"`
	Phase       string   `json:"phase"`
	Share       int      `json:"share"`
	Since       string   `json:"since"`
	Forced      bool     `json:"forced"`
	Reasons     []string `json:"reasons"`
	Behind      []string `json:"behind"`
	Connections *int64   `json:"connections"`
	Proxies     *struct {
		Connected int      `json:"connected"`
		Behind    int      `json:"behind"`
		Zones     []string `json:"zones"`
	} `json:"proxies"`
}

func (d *drainState) target() string {
	if d.Service == "" {
		return "all services"
	}
	return d.Service + " of " + d.Mesh
}

// row is what a table shows of a drain.
func (d *drainState) row() []string {
	connections := "-"
	if d.Connections != nil {
		connections = strconv.FormatInt(*d.Connections, 10)
	}
	following := "-"
	if p := d.Proxies; p != nil && p.Behind > 0 {
		following = fmt.Sprintf("%d of %d in %s", p.Behind, p.Connected, strings.Join(p.Zones, ","))
	} else if p != nil {
		following = fmt.Sprintf("0 of %d", p.Connected)
	}
	return []string{d.target(), d.Phase, strconv.Itoa(d.Share) + "%", connections, following, orDash(strings.Join(d.Behind, ","))}
}

var drainHeader = []string{"WHAT", "PHASE", "SHARE", "CONNECTIONS", "PROXIES STILL USE IT", "NOT YET IN"}

// drainCall is one invocation of drain or undrain.
type drainCall struct {
	*app
	zone          string
	services      []string
	ramp, timeout time.Duration
	force, watch  bool
	back          bool
}

func (a *app) zoneDrainCmd() *cobra.Command {
	d := &drainCall{app: a}
	c := &cobra.Command{
		Use:   "drain ZONE",
		Short: "Take a zone, or services of it, out of the traffic",
		Long: `Take a zone, or services of it, out of the traffic.

Step by step other zones get the requests that the zone got, those of its own
clients too, as far as others can serve them. Then each proxy is waited for that
was told to go elsewhere, and connections are; after --timeout those that remain
are closed. The zone stays drained until
'atollctl zone undrain'. It is asked of the global.

It refuses when requests would fail, and lists why, as 'atollctl failover check
--zone ZONE' does; --force goes on nevertheless. In GitOps the same is the field
drain of the Zone. With --watch it shows the progress and exits with 0 once the
zone is drained, with 1 when that was refused. Repeated, it shows the progress.`,
		Example: `  atollctl zone drain east --watch
  atollctl zone drain east --service backend -m shop --timeout 5m`,
		Args: args(cobra.ExactArgs(1)),
		RunE: d.run,
	}
	d.flags(c)
	c.Flags().DurationVar(&d.ramp, "ramp", 0, "how long the share takes from all to none (default 10s)")
	c.Flags().DurationVar(&d.timeout, "timeout", 0, "how long connections are waited for (default 1m)")
	c.Flags().BoolVar(&d.force, "force", false, "go on although requests would fail")
	return c
}

func (a *app) zoneUndrainCmd() *cobra.Command {
	d := &drainCall{app: a, back: true}
	c := &cobra.Command{
		Use:     "undrain ZONE",
		Short:   "Put a drained zone, or services of it, back",
		Example: `  atollctl zone undrain east --watch`,
		Args:    args(cobra.ExactArgs(1)),
		RunE:    d.run,
	}
	d.flags(c)
	return c
}

func (d *drainCall) flags(c *cobra.Command) {
	c.Flags().StringSliceVar(&d.services, "service", nil, "a service, by its display name, instead of all; may be repeated")
	c.Flags().StringVarP(&d.mesh, "mesh", "m", "", "mesh of the services (default: of the context, else default)")
	c.Flags().BoolVarP(&d.watch, "watch", "w", false, "show the progress until it is done")
	d.outputFlag(c)
}

func (d *drainCall) run(cmd *cobra.Command, given []string) error {
	if err := d.checkOutput(); err != nil {
		return err
	}
	d.zone = given[0]
	cl, err := d.connect()
	if err != nil {
		return err
	}
	body := drainBody{Force: d.force}
	for _, s := range d.services {
		body.Services = append(body.Services, drained{d.mesh, s})
	}
	if cmd.Flags().Changed("ramp") {
		body.Ramp = d.ramp.String()
	}
	if cmd.Flags().Changed("timeout") {
		body.Timeout = d.timeout.String()
	}
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	got, err := raw(cl, func(x *api.Client) (json.RawMessage, error) {
		if d.back {
			var undrain api.PostZonesNameItsUndrainBody
			if err := json.Unmarshal(b, &undrain); err != nil {
				return nil, err
			}
			_, err := x.PostZonesNameItsUndrain(cmd.Context(), d.zone, undrain)
			return nil, err
		}
		var drain api.PostZonesNameItsDrainBody
		if err := json.Unmarshal(b, &drain); err != nil {
			return nil, err
		}
		_, err := x.PostZonesNameItsDrain(cmd.Context(), d.zone, drain)
		return nil, err
	})
	if err != nil {
		return err
	}
	if d.watch {
		return d.follow(cmd.Context(), cl, got.revision)
	}
	if d.output != "table" {
		return d.printJSON(got.body)
	}
	if d.back {
		_, err = fmt.Fprintf(d.out, "zone %s gets its traffic back\n", d.zone)
	} else {
		_, err = fmt.Fprintf(d.out, "zone %s is being drained; see how far it is with 'atollctl zone drain %s --watch'\n", d.zone, d.zone)
	}
	return err
}

// follow shows each change of the progress until the end. The server answers when
// there is a newer revision.
func (d *drainCall) follow(ctx context.Context, cl *client, revision uint64) error {
	var tab *table
	var mine []drainState
	last, begun := "", time.Now()
	for {
		header := http.Header{minRevisionHeader: {strconv.FormatUint(revision, 10)}}
		got, err := raw(cl, func(x *api.Client) (api.GetZonesNameItsDrainAnswer, error) {
			return x.GetZonesNameItsDrain(ctx, d.zone, api.WithHeader(header))
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case isStatus(err, http.StatusServiceUnavailable):
			// Nothing changed for a while.
			if done, err := d.done(mine, begun); done || err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		var p drainProgress
		if err := json.Unmarshal(got.body, &p); err != nil {
			return err
		}
		mine = slices.DeleteFunc(slices.Clone(p.Drains), func(s drainState) bool { return !d.about(&s) })
		var rows [][]string
		for i := range mine {
			rows = append(rows, mine[i].row())
		}
		if text := fmt.Sprint(rows); text != last && len(rows) > 0 {
			last = text
			if d.output != "table" {
				if err := d.printJSON(got.body); err != nil {
					return err
				}
			} else {
				if tab == nil {
					tab = d.table(drainHeader, append(rows, []string{"", "Undraining", "100%", "", "", ""}))
				}
				if err := tab.print(rows); err != nil {
					return err
				}
			}
		}
		if done, err := d.done(mine, begun); done || err != nil {
			return err
		}
		if got.revision == 0 {
			return failWith(exitFailed, "%s does not say which revision its answers are from, so changes cannot be awaited", cl.base)
		}
		revision = got.revision + 1
	}
}

// about tells whether a drain is what was asked about.
func (d *drainCall) about(s *drainState) bool {
	if len(d.services) == 0 {
		return s.Service == ""
	}
	return s.Mesh == d.mesh && slices.Contains(d.services, s.Service)
}

// staleRefusal is how long a refusal may be that of an earlier attempt: the leader
// looks again at once, and then every few seconds.
const staleRefusal = 10 * time.Second

// done tells whether there is nothing more to wait for.
func (d *drainCall) done(list []drainState, begun time.Time) (bool, error) {
	if d.back {
		if len(list) == 0 {
			_, err := fmt.Fprintf(d.err, "zone %s has its traffic back\n", d.zone)
			return true, err
		}
		return false, nil
	}
	finished := 0
	for i := range list {
		switch list[i].Phase {
		case "Refused":
			if d.force || time.Since(begun) < staleRefusal {
				continue
			}
			return true, failWith(exitFailed, "%s of zone %s: requests would fail:\n  %s", list[i].target(), d.zone, strings.Join(list[i].Reasons, "\n  "))
		case "Drained":
			finished++
		}
	}
	return finished > 0 && finished == max(1, len(d.services)), nil
}
