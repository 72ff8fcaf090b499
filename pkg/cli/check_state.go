package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// shownNames is how many names a finding lists.
const shownNames = 5

// several makes a finding about the names of what is wrong.
func several(level int, what string, names []string, remedy string) finding {
	if len(names) == 0 {
		return finding{}
	}
	slices.Sort(names)
	text := fmt.Sprintf("%d %s: %s", len(names), what, strings.Join(names[:min(len(names), shownNames)], ", "))
	if len(names) > shownNames {
		text += fmt.Sprintf(" and %d more", len(names)-shownNames)
	}
	return finding{level, text, remedy}
}

// eachZone calls look with every zone.
func (c *checking) eachZone(ctx context.Context, look func(*zoneState)) error {
	if c.zones == nil {
		list, _, err := c.cl.list(ctx, overviewsIn("", zonesPath), nil)
		if err != nil {
			return err
		}
		c.zones = append([]json.RawMessage{}, list...)
	}
	for _, raw := range c.zones {
		var z zoneState
		if err := json.Unmarshal(raw, &z); err != nil {
			return err
		}
		look(&z)
	}
	return nil
}

func (c *checking) connected(ctx context.Context) finding {
	var away []string
	local, err := c.local(ctx)
	if err != nil {
		return failed(err)
	}
	err = c.eachZone(ctx, func(z *zoneState) {
		if z.status() == "Offline" && !local {
			away = append(away, z.Name)
		}
	})
	if err != nil {
		return failed(err)
	}
	return several(faulty, "zones are not connected", away, "look at the log of the zone's control plane; 'atollctl inspect zones' says since when")
}

// local tells whether this is a zone, whose own Zone connects to nobody here.
func (c *checking) local(ctx context.Context) (bool, error) {
	origin, err := c.cl.origin(ctx)
	return origin == "zone", err
}

// lagTolerance is how many seconds a zone may be behind without a word.
const lagTolerance = 10

func (c *checking) inSync(ctx context.Context) finding {
	var late []string
	err := c.eachZone(ctx, func(z *zoneState) {
		for _, d := range []syncDirection{z.Insight.Sync.GlobalToZone, z.Insight.Sync.ZoneToGlobal} {
			if d.LagSeconds > lagTolerance && z.status() == "Online" {
				late = append(late, fmt.Sprintf("%s (%s)", z.Name, lag(d)))
				break
			}
		}
	})
	if err != nil {
		return failed(err)
	}
	return several(faulty, "zones are behind", late, "'atollctl inspect zones -o yaml' shows which kinds; the log of the zone says why")
}

func (c *checking) unrejected(ctx context.Context) finding {
	var rejected []string
	err := c.eachZone(ctx, func(z *zoneState) {
		for _, d := range []syncDirection{z.Insight.Sync.GlobalToZone, z.Insight.Sync.ZoneToGlobal} {
			for kind, k := range d.Kinds {
				for _, r := range k.Rejected {
					rejected = append(rejected, fmt.Sprintf("%s: %s %s: %s", z.Name, kind, r.Name, r.Reason))
				}
			}
		}
	})
	if err != nil {
		return failed(err)
	}
	return several(faulty, "resources were rejected", rejected, "correct them, or update the zone if it does not know the kind yet")
}

func (c *checking) eachProxy(ctx context.Context, look func(*proxy)) error {
	if c.proxies == nil {
		list, _, err := c.cl.list(ctx, overviewsIn("", dataplanesPath), nil)
		if err != nil {
			return err
		}
		c.proxies = append([]json.RawMessage{}, list...)
	}
	for _, raw := range c.proxies {
		var p proxy
		if err := json.Unmarshal(raw, &p); err != nil {
			return err
		}
		look(&p)
	}
	return nil
}

func (c *checking) ready(ctx context.Context) finding {
	var bad []string
	err := c.eachProxy(ctx, func(p *proxy) {
		if s := p.status(); s != "Online" {
			bad = append(bad, fmt.Sprintf("%s/%s (%s)", p.Mesh, p.Name, strings.ToLower(s)))
		}
	})
	if err != nil {
		return failed(err)
	}
	return several(doubtful, "proxies are not online", bad, "'atollctl inspect dataplanes' shows all; look at the log of atoll-dp there")
}

func (c *checking) accepted(ctx context.Context) finding {
	var bad []string
	err := c.eachProxy(ctx, func(p *proxy) {
		last, online := newest(p.Insight.Subscriptions)
		if n := last.Status.Total.Rejected; online && n > 0 {
			bad = append(bad, fmt.Sprintf("%s/%s (%d)", p.Mesh, p.Name, n))
		}
	})
	if err != nil {
		return failed(err)
	}
	return several(doubtful, "proxies rejected configurations", bad, "'atollctl inspect dataplane NAME --type rejections' has Envoy's words, and the policies that may have caused them")
}
