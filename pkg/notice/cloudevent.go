package notice

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// CloudEvent is a notice as others get it: CloudEvents 1.0, structured JSON.
type CloudEvent struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"` // with the source unique; the same each time that it is sent
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject,omitempty"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Data        EventData `json:"data"`
}

// EventData is what happened.
type EventData struct {
	Event   string            `json:"event"`
	Key     string            `json:"key"`
	Lasts   bool              `json:"lasts"`
	Mesh    string            `json:"mesh,omitempty"`
	Zone    string            `json:"zone,omitempty"`
	Service string            `json:"service,omitempty"`
	Message string            `json:"message"`
	Details map[string]string `json:"details,omitempty"`
}

// typePrefix goes before the event in the type of a CloudEvent.
const typePrefix = "mesh.atoll."

// Source names the control plane whose store a snapshot is of.
func Source(s *view.Snapshot, site resource.Site) string {
	id := cmp.Or(kind.ClusterIDIn(s), "unknown")
	if site.Global {
		return "urn:atoll:" + id
	}
	return "urn:atoll:" + id + ":" + site.Zone
}

// Encode is the JSON of a notice.
func Encode(source, name string, n *kind.NoticeSpec) []byte {
	subject := n.Zone
	if n.Service != "" {
		subject = n.Mesh + "/" + n.Service
	}
	b, err := json.Marshal(CloudEvent{
		SpecVersion: "1.0", ID: name, Source: source, Type: typePrefix + n.Event, Subject: subject, Time: n.Time, ContentType: "application/json",
		Data: EventData{n.Event, n.Key, n.Lasts, n.Mesh, n.Zone, n.Service, n.Message, n.Details},
	})
	if err != nil {
		panic("notice: an event cannot be encoded: " + err.Error())
	}
	return b
}
