package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// rejections states on policies which proxies refuse their configuration because
// of them, as long as they do. What insights say is all it knows, so that it is
// true in the zone as at the global, and after a restart.
type rejections struct {
	site resource.Site
	of   map[resource.ID][]kind.Rejection // by insight
	by   map[string]map[resource.ID]bool  // insights by the KRI of a policy
}

// namedProxies bounds how many proxies a condition names.
const namedProxies = 5

func (j *rejections) plan(p *pass) {
	if p.full || j.of == nil {
		j.of, j.by = map[resource.ID][]kind.Rejection{}, map[string]map[resource.ID]bool{}
	}
	due := map[string]bool{}
	for id := range p.touched(kind.DataplaneInsight) {
		var now []kind.Rejection
		if o := p.get(id); o != nil {
			now = kind.RejectionsOf(resource.SpecOf[mesh_proto.DataplaneInsight](o))
		}
		j.replace(id, now, due)
	}
	for k := range p.kinds.All() {
		if k.Policy == nil {
			continue
		}
		for id := range p.touched(k.Type) {
			o := p.get(id)
			if o == nil {
				continue
			}
			kri := o.KRI().String()
			if j.by[kri] != nil || resource.StatusOf[kind.PolicyStatus](o).Condition(kind.ConditionRejected) != nil {
				due[kri] = true
			}
		}
	}
	for kri := range due {
		if k, err := resource.ParseKRI(kri); err == nil {
			j.state(p, p.now.ByKRI(k), kri)
		}
	}
}

// replace takes note of what one proxy refuses.
func (j *rejections) replace(id resource.ID, now []kind.Rejection, due map[string]bool) {
	for _, r := range j.of[id] {
		for _, kri := range r.Policies {
			due[kri] = true
			if delete(j.by[kri], id); len(j.by[kri]) == 0 {
				delete(j.by, kri)
			}
		}
	}
	delete(j.of, id)
	if len(now) == 0 {
		return
	}
	j.of[id] = now
	for _, r := range now {
		for _, kri := range r.Policies {
			due[kri] = true
			if j.by[kri] == nil {
				j.by[kri] = map[resource.ID]bool{}
			}
			j.by[kri][id] = true
		}
	}
}

// state writes the condition of one policy.
func (j *rejections) state(p *pass, o *resource.Object, kri string) {
	if o == nil || o.Kind.Policy == nil || p.get(o.ID) == nil {
		return
	}
	if j.site.Global && o.Kind.HasStatus && !j.site.LocallyOriginated(o.Labels) {
		return // its zone tells
	}
	o = p.get(o.ID)
	was := resource.StatusOf[kind.PolicyStatus](o)
	var status any
	if s := was.With(kind.ConditionRejected, j.condition(kri)); s != nil {
		status = s
	}
	meta := o.Meta // with the time of its last change, which this is none of
	p.put(newObject(o.Kind, meta, o.Spec, status))
}

// condition says what proxies refuse because of a policy; nil: nothing.
func (j *rejections) condition(kri string) *kind.Condition {
	if len(j.by[kri]) == 0 {
		return nil
	}
	var first *kind.Rejection // the oldest
	names := make([]string, 0, len(j.by[kri]))
	for _, id := range slices.SortedFunc(maps.Keys(j.by[kri]), resource.ID.Compare) {
		names = append(names, id.Name)
		for i := range j.of[id] {
			r := &j.of[id][i]
			if slices.Contains(r.Policies, kri) && (first == nil || r.Since.Before(first.Since)) {
				first = r
			}
		}
	}
	who := "1 proxy refuses it and keeps what it had"
	if len(names) > 1 {
		who = fmt.Sprintf("%d proxies refuse it and keep what they had", len(names))
	}
	more := ""
	if n := len(names) - namedProxies; n > 0 {
		names, more = names[:namedProxies], fmt.Sprintf(" and %d more", n)
	}
	text := fmt.Sprintf("%s (%s%s). %s %s: %s", who, strings.Join(names, ", "), more, first.Type, first.Resource, first.Error)
	if others := slices.DeleteFunc(slices.Clone(first.Policies), func(s string) bool { return s == kri }); len(others) > 0 {
		text += " (Or it is because of " + strings.Join(others, ", ") + ".)"
	}
	return &kind.Condition{Type: kind.ConditionRejected, Status: "True", Reason: "RefusedByProxies", Message: text}
}
