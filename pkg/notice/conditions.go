// Package notice tells what operators want to know as it happens: zones that are
// withdrawn, lost, drained or back, gaps that open or close, configuration that
// is rejected. What holds is a function of a snapshot; a notice is written
// wherever that differs from what the notices before it say.
package notice

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// Condition is something that holds and that people want to know.
type Condition struct {
	Key                 string // the same as long as it holds
	Event               string // that it began
	Mesh, Zone, Service string
	Message             string
	Details             map[string]string
}

// same tells whether nobody needs to know a difference.
func (c Condition) same(d Condition) bool { return c.Key == d.Key && c.Event == d.Event }

// ends is the event that tells the end of what another began.
var ends = map[string]string{
	kind.EventZoneWithdrawn:  kind.EventZoneBack,
	kind.EventZoneLost:       kind.EventZoneBack,
	kind.EventDrainRefused:   kind.EventZoneUndrained,
	kind.EventZoneDraining:   kind.EventZoneUndrained,
	kind.EventZoneDrained:    kind.EventZoneUndrained,
	kind.EventZoneUndraining: kind.EventZoneUndrained,
	kind.EventGapOpened:      kind.EventGapClosed,
	kind.EventConfigRejected: kind.EventConfigRecovered,
}

// about tells which parts of what holds may differ once a resource did: each part
// is found by itself.
func about(s *view.Snapshot, id resource.ID) []resource.ID {
	switch id.Type {
	case kind.ZoneLink:
		out := []resource.ID{id}
		if o := s.Get(id); o != nil {
			out = append(out, lostID(resource.SpecOf[kind.ZoneLinkSpec](o).Observed))
		} else {
			for o := range s.List(kind.ZoneInsight, "") { // of which zone is no longer known
				out = append(out, lostID(o.Name))
			}
		}
		return out
	case kind.ZoneInsight:
		return []resource.ID{id, lostID(id.Name)}
	case kind.ZoneTraffic, kind.DataplaneInsight:
		return []resource.ID{id}
	}
	return nil
}

// lostID stands for what all observers together say of a zone.
func lostID(zone string) resource.ID { return resource.ID{Type: kind.Zone, Name: zone} }

// conditions are those of one part.
func conditions(s *view.Snapshot, site resource.Site, id resource.ID) []Condition {
	if id.Type == kind.Zone {
		return lost(s, site, id.Name)
	}
	o := s.Get(id)
	if o == nil {
		return nil
	}
	switch id.Type {
	case kind.ZoneLink:
		return withdrawn(site, resource.SpecOf[kind.ZoneLinkSpec](o))
	case kind.ZoneTraffic:
		return draining(o)
	case kind.DataplaneInsight:
		return rejectedByProxy(s, o)
	case kind.ZoneInsight:
		return rejectedByZone(o)
	}
	return nil
}

// withdrawn is what a link says. In a zone only its own links count: what others
// see, the global tells.
func withdrawn(site resource.Site, l *kind.ZoneLinkSpec) []Condition {
	if !l.Withdrawn || !site.Global && l.Observer != site.Zone {
		return nil
	}
	c := Condition{
		Key: "withdrawn/" + l.Observer + "/" + l.Observed, Event: kind.EventZoneWithdrawn, Zone: l.Observed,
		Message: fmt.Sprintf("zone %s keeps its requests away from zone %s: %s", l.Observer, l.Observed, cmp.Or(l.Reason, "its entrances do not answer")),
		Details: map[string]string{"observer": l.Observer},
	}
	if l.Observer == l.Observed {
		c.Message = fmt.Sprintf("zone %s says that it cannot be entered: %s", l.Observed, cmp.Or(l.Reason, "none of its entrances is ready"))
	}
	return []Condition{c}
}

// lost tells whether a zone is: two others say so, or one does and the global
// does not hear from it either.
func lost(s *view.Snapshot, site resource.Site, zone string) []Condition {
	if !site.Global {
		return nil
	}
	var observers []string
	for o := range s.List(kind.ZoneLink, "") {
		if l := resource.SpecOf[kind.ZoneLinkSpec](o); l.Observed == zone && l.Observer != zone && l.Withdrawn {
			observers = append(observers, l.Observer)
		}
	}
	away := false
	if o := s.Get(resource.ID{Type: kind.ZoneInsight, Name: zone}); o != nil {
		i, _ := o.Spec.(*system_proto.ZoneInsight)
		away = !kind.ZoneOnline(i)
	}
	if len(observers) == 0 || len(observers) == 1 && !away {
		return nil
	}
	slices.Sort(observers)
	message := fmt.Sprintf("zone %s is lost: %s do not reach it", zone, strings.Join(observers, ", "))
	if away {
		message += ", and its control plane is not connected"
	}
	return []Condition{{
		Key: "lost/" + zone, Event: kind.EventZoneLost, Zone: zone, Message: message,
		Details: map[string]string{"observers": strings.Join(observers, ",")},
	}}
}

// phases are the events of the phases of a drain.
var phases = map[kind.DrainPhase]string{
	kind.DrainRefused: kind.EventDrainRefused, kind.DrainRamping: kind.EventZoneDraining, kind.DrainWaiting: kind.EventZoneDraining,
	kind.Drained: kind.EventZoneDrained, kind.DrainReturning: kind.EventZoneUndraining,
}

func draining(o *resource.Object) []Condition {
	st := resource.StatusOf[kind.ZoneTrafficStatus](o)
	if st == nil {
		return nil
	}
	var out []Condition
	for i := range st.Drains {
		d := &st.Drains[i]
		what := "zone " + o.Name
		c := Condition{
			Key: "drain/" + o.Name, Zone: o.Name, Mesh: d.Mesh, Service: d.Service,
			Event: phases[d.Phase], Details: map[string]string{"phase": string(d.Phase)},
		}
		if d.Service != "" {
			what = fmt.Sprintf("service %s of mesh %s in zone %s", d.Service, d.Mesh, o.Name)
			c.Key += "/" + d.Mesh + "/" + d.Namespace + "/" + d.Service
		}
		switch d.Phase {
		case kind.DrainRefused:
			c.Message = what + " is not drained: " + strings.Join(d.Reasons, "; ")
		case kind.Drained:
			c.Message = what + " is drained: others serve what they can"
		case kind.DrainReturning:
			c.Message = what + " gets its traffic back"
		default:
			c.Message = what + " is being drained"
			if d.Forced && len(d.Reasons) > 0 {
				c.Message += ", in spite of: " + strings.Join(d.Reasons, "; ")
			}
		}
		if c.Event != "" {
			out = append(out, c)
		}
	}
	return out
}

// rejectedByProxy is one condition for all that a proxy refuses because of the same
// policies, so that each policy that makes proxies refuse something is announced.
func rejectedByProxy(s *view.Snapshot, o *resource.Object) []Condition {
	i, ok := o.Spec.(*mesh_proto.DataplaneInsight)
	if !ok {
		return nil
	}
	var causes []string // in the order in which they appear
	refused := map[string][]kind.Rejection{}
	for _, r := range kind.RejectionsOf(i) {
		cause := strings.Join(r.Policies, ",")
		if refused[cause] == nil {
			causes = append(causes, cause)
		}
		refused[cause] = append(refused[cause], r)
	}
	var out []Condition
	for _, cause := range causes {
		list := refused[cause]
		c := Condition{
			Key: "rejected/" + o.Mesh + "/" + o.Name, Event: kind.EventConfigRejected, Mesh: o.Mesh, Zone: o.Zone(),
			Message: fmt.Sprintf("the proxy %s of mesh %s refuses %s %s: %s", o.DisplayName(), o.Mesh, list[0].Type, list[0].Resource, list[0].Error),
			Details: map[string]string{"dataplane": o.DisplayName(), "rejected": fmt.Sprint(len(list))},
		}
		if dp := s.Get(resource.ID{Type: kind.Dataplane, Mesh: o.Mesh, Name: o.Name}); dp != nil {
			c.Details["resource"] = dp.KRI().String()
		}
		if cause != "" {
			c.Key += "/" + cause
			c.Details["policies"] = cause
		}
		out = append(out, c)
	}
	return out
}

// rejectedByZone is one condition however much a zone, or the global of what it
// sends, refuses.
func rejectedByZone(o *resource.Object) []Condition {
	i, ok := o.Spec.(*system_proto.ZoneInsight)
	if !ok {
		return nil
	}
	n, first := 0, ""
	for _, d := range []*system_proto.SyncDirection{i.GetSync().GetGlobalToZone(), i.GetSync().GetZoneToGlobal()} {
		for t, k := range d.GetKinds() {
			for _, r := range k.GetRejected() {
				n++
				if text := fmt.Sprintf("%s %s: %s", t, r.GetName(), r.GetReason()); first == "" || text < first {
					first = text
				}
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []Condition{{
		Key: "rejected/zone/" + o.Name, Event: kind.EventConfigRejected, Zone: o.Name,
		Message: fmt.Sprintf("%d resources are refused in the sync with zone %s, such as %s", n, o.Name, first),
		Details: map[string]string{"rejected": fmt.Sprint(n)},
	}}
}
