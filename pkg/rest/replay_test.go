package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/identity"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/view"
)

// recorded is a call to the reference system and what it answered.
type recorded struct {
	CP, Method, Path, ContentType string
	Status                        int
	Request                       json.RawMessage
	RequestText                   *string
	Response                      any
}

func (c *recorded) String() string { return c.CP + " " + c.Method + " " + c.Path }

// inspecting sets what inspection needs. Proxies answer with the question.
func inspecting(site resource.Site) func(*Config) {
	return func(c *Config) {
		c.Compile = compile.Inputs{Policies: all.Policies(), Site: site}
		if !site.Global {
			c.SpiffeID = func(s *view.Snapshot, o *resource.Object) string {
				i := identity.NewMesh(site, s, o.Mesh).Of(&o.Meta)
				if i == nil {
					return ""
				}
				id, _ := i.SpiffeID(&o.Meta)
				return id
			}
			c.ProxyInfo = func(id resource.ID, _ *meshv1.DataplaneInsight) compile.ProxyInfo {
				return compile.ProxyInfo{ID: id, AdminPort: 9901, ReadinessPort: 9902}
			}
		}
		c.Settings = config.Default().Masked()
		c.AskProxy = func(_ context.Context, _ *resource.Object, q ProxyQuestion) ([]byte, error) {
			if q.Ask == AskConfig || q.JSON {
				return []byte(`{"configs":[]}`), nil
			}
			return []byte(q.Ask), nil
		}
	}
}

// fill stores what the answers of a control plane show, but for what later calls
// create.
func (w *world) fill(calls []recorded, cp string) {
	w.t.Helper()
	created := map[string]bool{}
	for _, c := range calls {
		if c.CP == cp && c.Method == "PUT" && c.Status == 201 {
			created[c.Path] = true
		}
	}
	for _, c := range calls {
		path, _, _ := strings.Cut(c.Path, "?")
		parts := strings.Split(strings.Trim(path, "/"), "/")
		overview := parts[len(parts)-1] == "_overview"
		if c.CP != cp || c.Method != "GET" || c.Status != 200 || !overview && strings.Contains(path, "/_") {
			continue
		}
		answer := c.Response.(map[string]any)
		items, ok := answer["items"].([]any)
		if !ok {
			items = []any{answer}
		}
		for _, item := range items {
			if doc, ok := item.(map[string]any); ok && doc["type"] != nil && doc["name"] != nil {
				w.restore(doc, created)
			}
		}
	}
}

// restore stores a resource as an answer showed it, unless it is among those that
// are created; of an overview its insight.
func (w *world) restore(doc map[string]any, created map[string]bool) {
	w.t.Helper()
	t, mesh, name := resource.Type(fmt.Sprint(doc["type"])), "", fmt.Sprint(doc["name"])
	if doc["mesh"] != nil {
		mesh = fmt.Sprint(doc["mesh"])
	}
	body := doc
	switch t {
	case "DataplaneOverview":
		t, body = kind.DataplaneInsight, doc["dataplaneInsight"].(map[string]any)
	case "ZoneOverview":
		insight, _ := doc["zoneInsight"].(map[string]any)
		t, body = kind.ZoneInsight, insight
	case kind.Secret, kind.GlobalSecret:
		body = maps.Clone(doc)
		body["data"] = "c2VjcmV0" // not recorded
	}
	k := w.kinds.ByType(t)
	if k == nil || k.Type == kind.MeshInsight || body == nil {
		return
	}
	path := "/" + k.Plural + "/" + name
	if mesh != "" {
		path = "/meshes/" + mesh + path
	}
	if created[path] {
		return
	}
	text, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	o, err := k.DecodeJSON(text)
	if err != nil {
		w.t.Fatalf("%s %s: %v", t, name, err)
	}
	var status any
	if raw, ok := doc["status"]; ok && k.HasStatus {
		status = k.NewStatus()
		b, _ := json.Marshal(raw)
		if err := json.Unmarshal(b, status); err != nil {
			w.t.Fatalf("%s %s: status: %v", t, name, err)
		}
	}
	o, err = k.New(resource.Meta{ID: resource.ID{Type: t, Mesh: mesh, Name: name}, Labels: o.Labels}, o.Spec, status)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(o)
}

// varies are members whose values differ from run to run, or that people read.
var varies = regexp.MustCompile(`(?i)(time|createdAt|^id$|instanceId|clusterId|hostname$|^version$|^gui$|message|reason|detail|details|build|generation|^data$|^next$|total|online|offline|responses\w+|certificate\w*|gitTag|gitCommit|^config$|product|basedOnKuma|readOnly)$`)

// differences lists where two answers do not have the same shape: members (also
// those that the reference lacks),
// lengths, types, and values but for those that vary.
func differences(path string, got, want any) (out []string) {
	last := path[strings.LastIndexByte(path, '.')+1:]
	switch w := want.(type) {
	case map[string]any:
		if _, cut := w["__cut"]; cut {
			return nil
		}
		g, ok := got.(map[string]any)
		if !ok {
			return []string{path + ": no object"}
		}
		for _, k := range slices.Sorted(maps.Keys(g)) {
			if _, ok := w[k]; !ok {
				out = append(out, path+"."+k+": more")
			}
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if _, ok := g[k]; !ok {
				out = append(out, path+"."+k+": missing")
				continue
			}
			out = append(out, differences(path+"."+k, g[k], w[k])...)
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("%s: %d items, not %d", path, len(g), len(w))}
		}
		for i := range w {
			out = append(out, differences(fmt.Sprintf("%s[%d]", path, i), g[i], w[i])...)
		}
	default:
		if varies.MatchString(last) {
			return nil
		}
		if fmt.Sprintf("%T", got) != fmt.Sprintf("%T", want) || got != want {
			return []string{fmt.Sprintf("%s: %.60v, not %.60v", path, got, want)}
		}
	}
	return out
}

// deliberate is where answers differ on purpose, or because the fixture cannot
// have what the reference had, by call and by difference.
var deliberate = []struct{ call, difference, because string }{
	{`/config$`, ``, "settings are Atoll's own; those that both have are tested with them"},
	{`/_kri/kri_mtrust_`, `status`, "an identifier without zone is found, too"},
	{`meshmultizoneservices/backend/_hostnames`, `zones`, "the name is known in all zones"},
	{`^zone .*/secrets`, `labels`, "the test has signing keys of its own"},
	{` /_resources$`, `: more`, "atollctl learns more about kinds"},
	{` /$`, `: more`, "versions of Atoll and of what it is compatible with"},
	{` PUT `, `.warnings: more`, "kinds and settings without effect are warned about"},
	{`^zone .*/global-insight$`, `.resources.`, "a federated zone counts what it knows"},
	{`dataplanes/[^/]*/_config`, `xds`, "Envoy's resources are Atoll's own"},
}

func isDeliberate(call, difference string) bool {
	for _, d := range deliberate {
		if regexp.MustCompile(d.call).MatchString(call) && strings.Contains(difference, d.difference) {
			return true
		}
	}
	return false
}

// withoutNative leaves the kinds that the reference does not know out of an
// answer of /_resources.
func withoutNative(kinds *resource.Kinds, answer any) {
	m, _ := answer.(map[string]any)
	list, _ := m["resources"].([]any)
	m["resources"] = slices.DeleteFunc(list, func(v any) bool {
		entry, _ := v.(map[string]any)
		name, _ := entry["name"].(string)
		k := kinds.ByType(resource.Type(name))
		return k != nil && k.Native
	})
}

// TestAnswersAsTheReference replays every recorded call against a global and a
// zone that hold what the recorded lists show, and compares status and shape.
func TestAnswersAsTheReference(t *testing.T) {
	f := conformanceFile(t, "rest.jsonl")
	if f == nil {
		return
	}
	var calls []recorded
	eachLine(t, f, func(line []byte) {
		var c recorded
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if _, isObject := c.Response.(map[string]any); !isObject {
			c.Response = map[string]any{"__cut": c.Response}
		}
		calls = append(calls, c)
	})
	worlds := map[string]*world{
		"global": newWorld(t, global, inspecting(global)), "zone": newWorld(t, federated, inspecting(federated)),
	}
	for cp, w := range worlds {
		w.fill(calls, cp)
	}
	worlds["global"].withKeys()
	worlds["zone"].withKeys(auth.UserKeys(), auth.DataplaneKeys("default"))
	statuses, shapes := 0, 0
	for _, c := range calls {
		body := string(c.Request)
		if c.RequestText != nil {
			body = *c.RequestText
		}
		a := worlds[c.CP].do(request{method: c.Method, path: c.Path, body: body, header: map[string]string{
			"User-Agent": "kumactl/3.0", "Content-Type": "application/json",
		}})
		var differ []string
		if a.Status == c.Status {
			statuses++
			var got any
			_ = json.Unmarshal([]byte(a.Body), &got)
			if c.Path == "/_resources" {
				withoutNative(worlds[c.CP].kinds, got)
			}
			differ = c.compare(got)
		} else {
			differ = []string{fmt.Sprintf("status %d, not %d: %.300s", a.Status, c.Status, a.Body)}
		}
		if len(differ) == 0 {
			shapes++
		}
		for _, d := range differ {
			if !isDeliberate(c.String(), d) {
				t.Errorf("%s: %s", &c, d)
			}
		}
	}
	t.Logf("of %d recorded calls %d agree in status and %d also in shape; %d differ on purpose",
		len(calls), statuses, shapes, len(calls)-shapes)
	if statuses < 429 || shapes < 412 {
		t.Error("fewer than before")
	}
}

// compare returns how an answer differs from the recorded one. Text, what was
// cut, and tokens are compared by status only.
func (c *recorded) compare(got any) []string {
	if want, ok := c.Response.(map[string]any); ok && want["__jwt"] != nil {
		return nil
	}
	return differences("", got, c.Response)
}
