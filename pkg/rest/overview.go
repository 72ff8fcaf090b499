package rest

import (
	"bytes"
	"net/http"
	"sync"

	"google.golang.org/protobuf/proto"

	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// An overview is a resource and what its insight says about it, in one document.

func (a *API) overviewRoutes(get func(string, endpoint)) {
	if k := a.Kinds.ByType(kind.Dataplane); k != nil {
		for _, prefix := range []string{"/dataplanes", "/meshes/{mesh}/dataplanes"} {
			get(prefix+"/_overview", a.listOverviews(k, a.dataplaneOverview))
			get(prefix+"+insights", a.listOverviews(k, a.dataplaneOverview))
		}
		get("/meshes/{mesh}/dataplanes/{name}/_overview", a.getOverview(k, a.dataplaneOverview))
		get("/meshes/{mesh}/dataplanes+insights/{name}", a.getOverview(k, a.dataplaneOverview))
	}
	if k := a.Kinds.ByType(kind.Zone); k != nil {
		get("/zones/_overview", a.listOverviews(k, a.zoneOverview))
		get("/zones+insights", a.listOverviews(k, a.zoneOverview))
		get("/zones/{name}/_overview", a.getOverview(k, a.zoneOverview))
		get("/zones+insights/{name}", a.getOverview(k, a.zoneOverview))
	}
}

type overview func(rows, *resource.Object) []byte

func (a *API) listOverviews(k *resource.Kind, make overview) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := a.moment(r, k.Type, insights[k.Type], kind.Mesh)
		if err != nil {
			return err
		}
		if err := a.mayRead(s, r, k); err != nil {
			return err
		}
		return a.answerPage(w, r, s, k, func(o *resource.Object) []byte { return make(s, o) })
	}
}

func (a *API) getOverview(k *resource.Kind, make overview) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := a.moment(r, k.Type, insights[k.Type], kind.Mesh)
		if err != nil {
			return err
		}
		if err := a.mayRead(s, r, k); err != nil {
			return err
		}
		o := s.Get(idOf(k, r))
		if !a.shows(r, o) {
			return notFound(titleGet)
		}
		noteRevision(w, s.Revision())
		writeIndented(w, make(s, o))
		return nil
	}
}

func (a *API) dataplaneOverview(s rows, o *resource.Object) []byte {
	insight := s.Get(resource.ID{Type: kind.DataplaneInsight, Mesh: o.Mesh, Name: o.Name})
	return a.overviews.get(o, insight, func() []byte {
		b := appendMember(resource.HeadOf(o, "DataplaneOverview"), "dataplane", resource.SpecJSON(o.Spec))
		if insight != nil {
			b = appendMember(b, "dataplaneInsight", resource.SpecJSON(insight.Spec))
		}
		return b
	})
}

// zoneOverview is made anew each time: there are few zones, and the state of
// their sync changes all the time.
func (a *API) zoneOverview(s rows, o *resource.Object) []byte {
	b := appendMember(resource.HeadOf(o, "ZoneOverview"), "zone", resource.SpecJSON(o.Spec))
	i := a.withSync(o.Name, zoneInsight(s, o.Name))
	if i == nil {
		i = a.ownZone(o.Name)
	}
	if i != nil {
		b = appendMember(b, "zoneInsight", resource.SpecJSON(i))
	}
	return b
}

// zoneInsightJSON is a ZoneInsight with the live state of its zone's sync.
func (a *API) zoneInsightJSON(o *resource.Object) []byte {
	stored := resource.SpecOf[systemv1.ZoneInsight](o)
	live := a.withSync(o.Name, stored)
	if live == stored {
		return o.JSON()
	}
	head, spec := resource.HeadOf(o, o.Type), resource.SpecJSON(live)
	b := append(bytes.TrimSuffix(head, []byte("}")), ',')
	return append(b, spec[1:]...)
}

func zoneInsight(s rows, zone string) *systemv1.ZoneInsight {
	o := s.Get(resource.ID{Type: kind.ZoneInsight, Name: zone})
	if o == nil {
		return nil
	}
	return resource.SpecOf[systemv1.ZoneInsight](o)
}

// withSync returns the insight with what is known of the zone's sync now. It
// returns its argument when nothing is.
func (a *API) withSync(zone string, stored *systemv1.ZoneInsight) *systemv1.ZoneInsight {
	if a.ZoneSync == nil {
		return stored
	}
	sync := a.ZoneSync(zone)
	if sync == nil {
		return stored
	}
	live := &systemv1.ZoneInsight{}
	if stored != nil {
		live = proto.Clone(stored).(*systemv1.ZoneInsight)
	}
	live.Sync = sync
	return live
}

// appendMember adds a member to the end of a JSON object.
func appendMember(object []byte, name string, value []byte) []byte {
	b := make([]byte, 0, len(object)+len(name)+len(value)+4)
	b = append(b, object[:len(object)-1]...)
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":`...)
	b = append(b, value...)
	return append(b, '}')
}

// overviewCache keeps the bytes of overviews while both resources are the same,
// so that a list of a thousand is copying and no encoding.
type overviewCache struct {
	mu   sync.Mutex
	rows map[resource.ID]overviewRow
}

type overviewRow struct {
	base, insight *resource.Object
	json          []byte
}

// maxOverviews bounds the cache; rows of resources that are gone leave with the
// rest when it is full.
const maxOverviews = 20_000

func (c *overviewCache) get(base, insight *resource.Object, make func() []byte) []byte {
	c.mu.Lock()
	row, ok := c.rows[base.ID]
	c.mu.Unlock()
	if ok && row.base == base && row.insight == insight {
		return row.json
	}
	b := make()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil || len(c.rows) >= maxOverviews {
		c.rows = map[resource.ID]overviewRow{}
	}
	c.rows[base.ID] = overviewRow{base, insight, b}
	return b
}
