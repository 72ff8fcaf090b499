package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	api "github.com/atoll-mesh/atoll/api/client"
)

// zoneLinks is what zones say of each other: /zones/_links.
type zoneLinks struct {
	Zones []struct {
		Name string
		Lost bool
	}
	Links []zoneLink
}

type zoneLink struct {
	Observer, Observed, State, Reason string
	Withdrawn                         bool
	Since                             time.Time
	RTTMillis                         float64
	Loss                              float64
	Flaps                             int
}

// cell is one link in the matrix.
func (l *zoneLink) cell() string {
	text := l.State
	if l.RTTMillis > 0 && l.State != "Down" {
		text += fmt.Sprintf(" %.1fms", l.RTTMillis)
	}
	if l.Loss >= 0.01 && l.State != "Down" {
		text += fmt.Sprintf(" -%.0f%%", 100*l.Loss)
	}
	if l.Withdrawn {
		text += " withdrawn"
	}
	return text
}

// printZoneLinks shows who reaches whom, and why not. It shows nothing where no
// zone says anything, or the control plane does not know such links.
func (a *app) printZoneLinks(ctx context.Context) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	var m zoneLinks
	if err := read(cl, &m, func(x *api.Client) (api.GetZonesItsLinksAnswer, error) { return x.GetZonesItsLinks(ctx) }); err != nil {
		var refused *problem
		if errors.As(err, &refused) && (refused.Status == http.StatusNotFound || refused.Status == http.StatusForbidden) {
			return nil
		}
		return err
	}
	if len(m.Links) == 0 {
		return nil
	}
	between := map[[2]string]*zoneLink{}
	observes := map[string]bool{}
	for i := range m.Links {
		l := &m.Links[i]
		between[[2]string{l.Observer, l.Observed}] = l
		observes[l.Observer] = true
	}
	head := []string{"FROM \\ TO"}
	var rows, troubles [][]string
	for _, to := range m.Zones {
		name := to.Name
		if to.Lost {
			name += " (LOST)"
		}
		head = append(head, name)
	}
	for _, from := range m.Zones {
		if !observes[from.Name] {
			continue
		}
		row := []string{from.Name}
		for _, to := range m.Zones {
			l := between[[2]string{from.Name, to.Name}]
			if l == nil {
				row = append(row, "-")
				continue
			}
			row = append(row, l.cell())
			if l.State != "Up" || l.Withdrawn {
				troubles = append(troubles, []string{l.Observer, l.Observed, l.State, age(l.Since), fmt.Sprint(l.Flaps), orDash(l.Reason)})
			}
		}
		rows = append(rows, row)
	}
	fmt.Fprintln(a.out)
	if err := a.printTable(head, rows); err != nil || len(troubles) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	return a.printTable([]string{"FROM", "TO", "STATE", "SINCE", "FLAPS", "REASON"}, troubles)
}
