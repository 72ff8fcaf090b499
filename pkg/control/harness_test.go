package control_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/control"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/store/memory"
	"github.com/atoll-mesh/atoll/pkg/view"
)

var (
	global     = resource.Site{Global: true, Env: resource.EnvUniversal}
	standalone = resource.Site{Zone: "east", Env: resource.EnvUniversal}
	federated  = resource.Site{Zone: "east", Env: resource.EnvUniversal, Federated: true}
)

// timeout stands in for a default policy: any kind in a mesh will do.
var timeout = resource.Define[kind.WorkloadSpec, kind.PolicyStatus](resource.Kind{
	Names: resource.Names{Type: "MeshTimeout", Plural: "meshtimeouts", Short: "mt"},
	Scope: resource.ScopeMesh,
	Flows: resource.GlobalToZone | resource.ZoneToGlobal,
})

// retry stands in for any policy.
var retry = resource.Define[kind.WorkloadSpec, kind.PolicyStatus](resource.Kind{
	Names: resource.Names{Type: "MeshRetry", Plural: "meshretries", Short: "mr"},
	Scope: resource.ScopeMesh, Policy: &resource.PolicyInfo{HasTo: true}, LocalStatus: true,
	Flows: resource.GlobalToZone | resource.ZoneToGlobal,
})

// plane is a control plane that does nothing but what is tested, in a bubble of
// virtual time.
type plane struct {
	t     *testing.T
	site  resource.Site
	kinds *resource.Kinds
	cfg   control.Config
	store store.Store
	stop  func() // ends Run and waits for it
	log   *strings.Builder
}

// inBubble runs a test of a control plane whose jobs have not started yet.
func inBubble(t *testing.T, site resource.Site, test func(t *testing.T, p *plane)) {
	synctest.Test(t, func(t *testing.T) {
		p := &plane{t: t, site: site, store: memory.Open(), log: &strings.Builder{}}
		p.kinds = resource.NewKinds(append(kind.All(), timeout, retry)...)
		log := slog.New(slog.NewTextHandler(p.log, nil))
		v := view.New(p.kinds, site, log)
		keys := 0
		p.cfg = control.Config{
			View: v, Store: p.store, Log: log,
			Defaults: control.Defaults{
				Kinds: p.kinds, Site: site,
				Key: func() ([]byte, error) {
					keys++
					return fmt.Appendf(nil, "key %d", keys), nil
				},
				Policies: func(mesh string) []*resource.Object {
					return []*resource.Object{p.parse("MeshTimeout", `{"name": "mesh-timeout-all-`+mesh+`", "mesh": "`+mesh+`"}`)}
				},
			},
			GenerateServices: true, GenerateWorkloads: true,
			GracePeriod: time.Hour,
			ServiceCIDR: netip.MustParsePrefix("241.0.0.0/8"),

			ExternalServiceCIDR:  netip.MustParsePrefix("242.0.0.0/8"),
			MultiZoneServiceCIDR: netip.MustParsePrefix("243.0.0.0/8"),
			CleanupAge:           72 * time.Hour,
		}
		ctx, cancel := context.WithCancel(t.Context())
		followed := make(chan error)
		go func() { followed <- view.Follow(ctx, p.store, v) }()
		test(t, p)
		if p.stop != nil {
			p.stop()
		}
		cancel()
		<-followed
	})
}

// start runs the jobs, which stand still when it returns.
func (p *plane) start() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- control.Run(ctx, p.cfg) }()
	p.stop = func() {
		p.stop = nil
		cancel()
		if err := <-ended; ctx.Err() == nil {
			p.t.Errorf("Run ended: %v", err)
		}
	}
	p.settle()
}

// settle lets everything happen that follows from what was written.
func (p *plane) settle() { p.pass(10 * time.Second) }

// pass lets time go by.
func (p *plane) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (p *plane) parse(t resource.Type, doc string) *resource.Object {
	p.t.Helper()
	if (t == timeout.Type || t == kind.Workload) && !strings.Contains(doc, `"spec"`) {
		doc = strings.TrimSuffix(doc, "}") + `, "spec": {}}`
	}
	o, err := p.kinds.ByType(t).DecodeJSON([]byte(doc))
	if err != nil {
		p.t.Fatal(err)
	}
	o.Type = t
	return o
}

// apply stores documents as a user would.
func (p *plane) apply(t resource.Type, docs ...string) {
	p.t.Helper()
	for _, doc := range docs {
		o := p.parse(t, doc)
		p.edit(o.ID, func(old *resource.Object) *resource.Object {
			admitted, err := p.site.Admit(o, old)
			if err != nil {
				p.t.Fatal(err)
			}
			return admitted
		})
	}
}

// receive stores a document as sync does: as it is.
func (p *plane) receive(t resource.Type, doc string) {
	p.t.Helper()
	o := p.parse(t, doc)
	p.edit(o.ID, func(*resource.Object) *resource.Object { return o })
}

func (p *plane) delete(id resource.ID) {
	p.t.Helper()
	p.edit(id, func(*resource.Object) *resource.Object { return nil })
}

func (p *plane) edit(id resource.ID, fn func(old *resource.Object) *resource.Object) {
	p.t.Helper()
	rev, err := view.Edit(p.t.Context(), p.cfg.View, p.store, id, "test", func(old *resource.Object) (*resource.Object, error) { return fn(old), nil })
	if err == nil {
		_, err = p.cfg.View.Wait(p.t.Context(), rev)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// connect writes the insight of a proxy that came, or also went, now.
func (p *plane) connect(mesh, name string, online bool) {
	p.t.Helper()
	sub := &mesh_proto.DiscoverySubscription{Id: "1", ConnectTime: timestamppb.Now()}
	if !online {
		sub.DisconnectTime = timestamppb.Now()
	}
	k := p.kinds.ByType(kind.DataplaneInsight)
	id := resource.ID{Type: k.Type, Mesh: mesh, Name: name}
	o, err := k.New(resource.Meta{ID: id}, &mesh_proto.DataplaneInsight{Subscriptions: []*mesh_proto.DiscoverySubscription{sub}}, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.edit(id, func(*resource.Object) *resource.Object { return o })
}

func (p *plane) get(t resource.Type, mesh, name string) *resource.Object {
	return p.cfg.View.Snapshot().Get(resource.ID{Type: t, Mesh: mesh, Name: name})
}

// all is every resource but those of the kinds left out, as "Type mesh/name".
func (p *plane) all(except ...resource.Type) []string {
	var list []string
	for k := range p.kinds.All() {
		for o := range p.cfg.View.Snapshot().List(k.Type, "") {
			if !slices.Contains(except, k.Type) {
				list = append(list, o.ID.String())
			}
		}
	}
	return list
}

// commits counts those of the jobs after a revision.
func (p *plane) commits(after store.Revision) int {
	p.t.Helper()
	n := 0
	for {
		b, err := p.store.Read(p.t.Context(), after, 0)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, c := range b.Commits {
			if slices.ContainsFunc(c.Changes, func(c store.Change) bool { return c.Author == store.ControlPlane }) {
				n++
			}
			after = c.Revision
		}
		if after >= b.Head {
			return n
		}
	}
}

func (p *plane) want(what string, got, want any) {
	p.t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		p.t.Errorf("%s:\ngot  %s\nwant %s", what, g, w)
	}
}

// dataplane is the document of a proxy of a workload.
func dataplane(name, workload, inbounds string) string {
	return fmt.Sprintf(`{"type": "Dataplane", "mesh": "default", "name": %q, "labels": {"kuma.io/workload": %q}, "networking": {"address": "10.0.0.1", "inbound": [%s]}}`,
		name, workload, inbounds)
}

const (
	mesh = `{"type": "Mesh", "name": "default"}`
	http = `{"port": 8080, "name": "web", "protocol": "http"}`
)

func specOf(o *resource.Object) string   { return string(resource.SpecJSON(o.Spec)) }
func statusOf(o *resource.Object) string { return string(resource.SpecJSON(o.Status)) }
