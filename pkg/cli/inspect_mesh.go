package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) inspectMeshesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "meshes",
		Short:   "Show the meshes: how many of their proxies are online, how much is in them",
		Example: `  atollctl inspect meshes`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			items, total, err := a.overviews(cmd, func() listing { return kindInfo{Path: insightsPath}.in("") }, nil)
			if err != nil {
				return err
			}
			if a.output != "table" && a.output != "wide" {
				return a.printList(items, total)
			}
			if len(items) == 0 {
				fmt.Fprintln(a.err, "There are no insights of meshes here: a zone leaves them to its global. 'atollctl inspect dataplanes' shows the proxies of this zone")
			}
			var rows [][]string
			for _, raw := range items {
				var m struct {
					Name       string
					Dataplanes struct{ Online, Total int }
					Resources  map[string]struct{ Total int }
				}
				if err := json.Unmarshal(raw, &m); err != nil {
					return err
				}
				resources := 0
				for _, r := range m.Resources {
					resources += r.Total
				}
				rows = append(rows, []string{
					m.Name, fmt.Sprintf("%d/%d", m.Dataplanes.Online, m.Dataplanes.Total), strconv.Itoa(resources),
				})
			}
			return a.printTable([]string{"MESH", "DATAPLANES", "RESOURCES"}, rows)
		},
	}
	a.outputFlag(c)
	return c
}

// service is what the table of services shows of any kind of them.
type service struct {
	item
	Spec struct {
		State string
		Ports []struct {
			Port        uint32
			AppProtocol string `json:"appProtocol"`
		}
		Match struct {
			Port     uint32
			Protocol string
		}
	}
	Status struct {
		VIPs      []struct{ IP string } `json:"vips"`
		VIP       struct{ IP string }   `json:"vip"`
		Addresses []struct{ Hostname string }
		Proxies   *struct{ Connected, Healthy, Total int } `json:"dataplaneProxies"`
		// Services are those that a MeshMultiZoneService consists of.
		Services []json.RawMessage `json:"meshServices"`
	}
}

var serviceKinds = []string{"MeshService", "MeshMultiZoneService", "MeshExternalService"}

func (a *app) inspectServicesCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "services",
		Short:   "Show what can be called: where, by which name, how many proxies answer",
		Example: `  atollctl inspect services -m shop`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.checkOutput("wide"); err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			var all []json.RawMessage
			var rows [][]string
			for _, name := range serviceKinds {
				k, err := cl.kindByName(cmd.Context(), name)
				if err != nil {
					return err
				}
				items, _, err := cl.list(cmd.Context(), k.in(a.mesh), nil)
				if err != nil {
					return err
				}
				all = append(all, items...)
				for _, raw := range items {
					var s service
					if err := json.Unmarshal(raw, &s); err != nil {
						return err
					}
					rows = append(rows, a.serviceRow(&s))
				}
			}
			if a.output != "table" && a.output != "wide" {
				return a.printList(all, len(all))
			}
			header := []string{"MESH", "KIND", "NAME", "ZONE", "STATE", "PROXIES", "PORTS", "HOSTNAME"}
			if a.output == "wide" {
				header = append(header, "VIP", "KRI")
			}
			return a.printTable(header, rows)
		},
	}
	a.meshFlag(c)
	a.outputFlag(c)
	return c
}

func (a *app) serviceRow(s *service) []string {
	var ports []string
	for _, p := range s.Spec.Ports {
		ports = append(ports, portText(p.Port, p.AppProtocol))
	}
	if s.Spec.Match.Port != 0 {
		ports = append(ports, portText(s.Spec.Match.Port, s.Spec.Match.Protocol))
	}
	proxies := "-"
	switch {
	case s.Status.Proxies != nil && s.Status.Proxies.Total == 0 && s.Labels["kuma.io/origin"] == "global" && s.Labels["kuma.io/zone"] != "":
		// A copy of another zone's service: how many proxies it has is known there.
	case s.Status.Proxies != nil:
		proxies = fmt.Sprintf("%d/%d", min(s.Status.Proxies.Connected, s.Status.Proxies.Healthy), s.Status.Proxies.Total)
	case s.Type == "MeshMultiZoneService":
		proxies = fmt.Sprintf("%d services", len(s.Status.Services))
	}
	hostname := ""
	if len(s.Status.Addresses) > 0 {
		hostname = s.Status.Addresses[0].Hostname
		if more := len(s.Status.Addresses) - 1; more > 0 {
			hostname += fmt.Sprintf(" +%d", more)
		}
	}
	name := s.Labels["kuma.io/display-name"]
	if name == "" || a.output == "wide" {
		name = s.Name
	}
	row := []string{s.Mesh, s.Type, name, orDash(s.Labels["kuma.io/zone"]), orDash(s.Spec.State), proxies, orDash(strings.Join(ports, ",")), orDash(hostname)}
	if a.output == "wide" {
		vip := s.Status.VIP.IP
		if len(s.Status.VIPs) > 0 {
			vip = s.Status.VIPs[0].IP
		}
		row = append(row, orDash(vip), orDash(s.KRI))
	}
	return row
}

func portText(port uint32, protocol string) string {
	if protocol == "" {
		protocol = "tcp"
	}
	return fmt.Sprintf("%d/%s", port, protocol)
}

// inspectPolicy shows the proxies that a policy selects.
func (a *app) inspectPolicy(cmd *cobra.Command, kind, name string) error {
	if err := a.checkOutput("name"); err != nil {
		return err
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	k, err := cl.kindByName(cmd.Context(), kind)
	if err != nil {
		return err
	}
	if k.Policy == nil {
		return failWith(exitUsage, "%s is no policy; look at it with 'atollctl get'", k.Name)
	}
	items, total, err := cl.list(cmd.Context(), selectedBy(target{k, a.mesh, name}), nil)
	if isNotFound(err) {
		return a.noSuchHere(cmd.Context(), cl, k, name)
	}
	if err != nil {
		return err
	}
	switch a.output {
	case "json", "yaml":
		return a.printList(items, total)
	}
	var rows [][]string
	for _, raw := range items {
		var it item
		if err := json.Unmarshal(raw, &it); err != nil {
			return err
		}
		if a.output == "name" {
			fmt.Fprintf(a.out, "dataplanes/%s\n", it.Name)
			continue
		}
		rows = append(rows, []string{it.Mesh, it.Name, orDash(it.Labels["kuma.io/zone"]), orDash(labelText(it.Labels))})
	}
	if a.output == "name" {
		return nil
	}
	return a.printTable([]string{"MESH", "NAME", "ZONE", "TAGS"}, rows)
}
