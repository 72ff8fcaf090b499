package control

import (
	"log/slog"
	"time"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// collector deletes Dataplanes whose proxy has been away for too long. Those
// that never had one are left to who created them.
type collector struct {
	age time.Duration
	log *slog.Logger
	due map[resource.ID]time.Time // offline Dataplanes: when to delete
}

func (j *collector) plan(p *pass) {
	if p.full {
		j.due = map[resource.ID]time.Time{}
	}
	for id := range insightOwners(p) {
		insight := id
		insight.Type = kind.DataplaneInsight
		if left, ok := offlineSince(p.now.Get(insight)); ok {
			j.due[id] = left.Add(j.age)
		} else {
			delete(j.due, id)
		}
	}
	for id, t := range j.due {
		if t.After(p.time) {
			p.at(t)
			continue
		}
		if p.now.Get(id) != nil {
			j.log.Info("a Dataplane is deleted: its proxy has been offline for too long", "dataplane", id.String(), "limit", j.age)
			p.remove(id)
		}
		id.Type = kind.DataplaneInsight
		p.remove(id)
	}
}

// offlineSince tells when the last subscription of a proxy ended.
func offlineSince(o *resource.Object) (time.Time, bool) {
	if o == nil {
		return time.Time{}, false
	}
	insight := resource.SpecOf[mesh_proto.DataplaneInsight](o)
	var last time.Time
	for _, s := range insight.GetSubscriptions() {
		if t := s.GetDisconnectTime(); t != nil && t.AsTime().After(last) {
			last = t.AsTime()
		}
	}
	return last, !last.IsZero() && !kind.DataplaneOnline(insight)
}
