package control

import (
	"strconv"
	"strings"

	"github.com/google/uuid"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// DefaultMesh is the name of the Mesh that is created at start.
const DefaultMesh = "default"

// essentials creates, once after each start, what a control plane cannot be
// without, where it is missing. What a user deletes later comes back with the
// next start.
type essentials struct {
	cfg      Config
	site     resource.Site
	hasToken bool // the admin's token exists or shall not
}

func (j *essentials) plan(p *pass) {
	if p.old == nil { // until a pass was written
		j.start(p)
	}
	j.meshKeys(p)
	j.adminToken(p)
}

func (j *essentials) start(p *pass) {
	if !j.site.Federated { // a federated zone has its global's
		j.clusterID(p)
		j.keyUnlessAny(p, kind.ZoneTokenKeyPrefix)
		j.defaultMesh(p)
	}
	if j.cfg.UserTokenKey {
		j.keyUnlessAny(p, kind.UserTokenKeyPrefix)
	}
	if !j.site.Global {
		j.ownZone(p)
	}
}

func (j *essentials) clusterID(p *pass) {
	id := resource.ID{Type: kind.Config, Name: kind.ClusterID}
	if p.get(id) == nil {
		p.put(j.cfg.Defaults.own(id, &system_proto.Config{Config: uuid.NewString()}))
	}
}

// keyUnlessAny creates key 1 of a family that has none. With others there, 1 was
// deleted by rotation.
func (j *essentials) keyUnlessAny(p *pass, prefix string) {
	for o := range p.now.List(kind.GlobalSecret, "") {
		if strings.HasPrefix(o.Name, prefix) {
			return
		}
	}
	o, err := j.cfg.Defaults.key(resource.ID{Type: kind.GlobalSecret, Name: prefix + "1"})
	if err != nil {
		j.cfg.Log.Error("a signing key could not be made; tokens cannot be issued until the next start", "key", prefix+"1", "error", err)
		return
	}
	p.put(o)
}

func (j *essentials) defaultMesh(p *pass) {
	id := resource.ID{Type: kind.Mesh, Name: DefaultMesh}
	if !j.cfg.DefaultMesh || p.get(id) != nil {
		return
	}
	mesh := j.cfg.Defaults.own(id, &mesh_proto.Mesh{})
	defaults, err := j.cfg.Defaults.For(mesh)
	if err != nil {
		j.cfg.Log.Error("the default mesh could not be made; create it by hand or start again", "error", err)
		return
	}
	p.putAll(append([]*resource.Object{mesh}, defaults...))
}

// ownZone sees to it that a zone has the Zone resource of its own name and no
// other, such as that of a former name.
func (j *essentials) ownZone(p *pass) {
	own := resource.ID{Type: kind.Zone, Name: j.site.Zone}
	for o := range p.now.List(kind.Zone, "") {
		if o.ID != own {
			p.remove(o.ID)
		}
	}
	if j.site.Zone != "" && p.get(own) == nil {
		p.put(j.cfg.Defaults.own(own, &system_proto.Zone{}))
	}
}

// meshKeys gives a key to meshes that have none, such as one that was restored
// without its secrets. A zone with a global has the public halves of the global's
// keys and one of its own: it can issue tokens for its proxies, also while the
// global is away, and no private key has to travel.
func (j *essentials) meshKeys(p *pass) {
	for id := range p.touched(kind.Mesh) {
		if p.get(id) == nil || j.hasKey(p, id.Name) {
			continue
		}
		number := "1"
		if j.site.Federated {
			// The global counts from 1, and a token names its key by this number only.
			number = strconv.FormatInt(p.time.Unix(), 10)
		}
		o, err := j.cfg.Defaults.dataplaneKey(id.Name, number)
		if err != nil {
			j.cfg.Log.Error("a signing key could not be made; dataplane tokens of the mesh cannot be issued", "mesh", id.Name, "error", err)
			continue
		}
		p.put(o)
	}
}

func (j *essentials) hasKey(p *pass, mesh string) bool {
	prefix := kind.DataplaneTokenKeyPrefix(mesh)
	for o := range p.now.List(kind.Secret, mesh) {
		if strings.HasPrefix(o.Name, prefix) {
			return true
		}
	}
	return p.get(resource.ID{Type: kind.Secret, Mesh: mesh, Name: prefix + "1"}) != nil
}

// adminToken issues the first admin's token once the key that signs it can be
// read back.
func (j *essentials) adminToken(p *pass) {
	id := resource.ID{Type: kind.GlobalSecret, Name: kind.AdminUserToken}
	if j.hasToken || j.cfg.IssueAdminToken == nil {
		return
	}
	if p.now.Get(id) != nil {
		j.hasToken = true
		return
	}
	for o := range p.now.List(kind.GlobalSecret, "") {
		if !strings.HasPrefix(o.Name, kind.UserTokenKeyPrefix) {
			continue
		}
		token, err := j.cfg.IssueAdminToken()
		if err != nil {
			j.cfg.Log.Error("the token of the first admin could not be issued; it will be tried again with the next start", "error", err)
			j.hasToken = true
			return
		}
		p.put(j.cfg.Defaults.secret(id, []byte(token)))
		return
	}
}
