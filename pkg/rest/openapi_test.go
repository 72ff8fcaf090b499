package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// described is the API's own description, with what is needed to hold answers
// against it.
type described struct {
	doc     object
	schemas object
	paths   []describedPath
}

type describedPath struct {
	re       *regexp.Regexp
	literals int
	item     object
}

func describedBy(t *testing.T, w *world) *described {
	t.Helper()
	a := w.get(openAPIPath)
	w.wantStatus(a, 200)
	d := &described{}
	if err := json.Unmarshal([]byte(a.Body), &d.doc); err != nil {
		t.Fatal(err)
	}
	d.schemas = d.doc["components"].(object)["schemas"].(object)
	for path, item := range d.doc["paths"].(object) {
		pattern := "^" + regexp.MustCompile(`\\\{[^}]+\\\}`).ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$"
		d.paths = append(d.paths, describedPath{regexp.MustCompile(pattern), len(pathParameter.ReplaceAllString(path, "")), item.(object)})
	}
	// Of the paths that match, the one with the most text of its own is meant.
	slices.SortFunc(d.paths, func(a, b describedPath) int { return b.literals - a.literals })
	return d
}

// operation finds what is said about a call, or nil.
func (d *described) operation(method, path string) object {
	path, _, _ = strings.Cut(path, "?")
	for _, p := range d.paths {
		if p.re.MatchString(path) {
			op, _ := p.item[strings.ToLower(method)].(object)
			return op
		}
	}
	return nil
}

// check returns how an answer differs from the description.
func (d *described) check(method, path string, a answer) []string {
	op := d.operation(method, path)
	if op == nil {
		if a.Status == http.StatusNotFound || a.Status == http.StatusMethodNotAllowed {
			return d.violations(object{"$ref": "#/components/schemas/Problem"}, decoded(a.Body), "")
		}
		return []string{"no such operation is described"}
	}
	response, ok := op["responses"].(object)[fmt.Sprint(a.Status)].(object)
	if !ok {
		return []string{fmt.Sprintf("status %d is not described", a.Status)}
	}
	for media, content := range response["content"].(object) {
		got, _, _ := strings.Cut(a.Header.Get("Content-Type"), ";")
		if media != got && media != "*/*" {
			return []string{"content type " + got + ", described is " + media}
		}
		if media != "application/json" {
			return nil
		}
		return d.violations(content.(object)["schema"].(object), decoded(a.Body), "")
	}
	return nil
}

func decoded(body string) any {
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		return err.Error()
	}
	return v
}

// violations holds a value against a schema: the part of JSON Schema that the
// description uses. Objects that list their members may have no others, so that
// what is answered but not described is found.
func (d *described) violations(s object, v any, at string) []string {
	if name, ok := s["$ref"].(string); ok {
		schema, ok := d.schemas[strings.TrimPrefix(name, "#/components/schemas/")].(object)
		if !ok {
			return []string{at + ": the schema " + name + " does not exist"}
		}
		return d.violations(schema, v, at)
	}
	if any, ok := s["anyOf"].([]any); ok {
		var first []string
		for i, option := range any {
			errs := d.violations(option.(object), v, at)
			if len(errs) == 0 {
				return nil
			}
			if i == 0 {
				first = errs
			}
		}
		return first
	}
	if c, ok := s["const"]; ok && !reflect.DeepEqual(c, v) {
		return []string{fmt.Sprintf("%s: is %v, described is %v", at, v, c)}
	}
	if !hasType(s["type"], v) {
		return []string{fmt.Sprintf("%s: is %.80v, described is type %v", at, v, s["type"])}
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		return []string{fmt.Sprintf("%s: %v is none of %v", at, v, enum)}
	}
	switch v := v.(type) {
	case string:
		if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
			return []string{at + ": " + v + " does not match " + p}
		}
	case []any:
		var errs []string
		if items, ok := s["items"].(object); ok {
			for i, e := range v {
				errs = append(errs, d.violations(items, e, fmt.Sprintf("%s[%d]", at, i))...)
			}
		}
		return errs
	case object:
		return d.memberViolations(s, v, at)
	}
	return nil
}

func (d *described) memberViolations(s, v object, at string) []string {
	var errs []string
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			errs = append(errs, fmt.Sprintf("%s.%v: is missing", at, name))
		}
	}
	properties, closed := s["properties"].(object)
	others, open := s["additionalProperties"].(object)
	for _, name := range slices.Sorted(maps.Keys(v)) {
		switch p, ok := properties[name].(object); {
		case ok:
			errs = append(errs, d.violations(p, v[name], at+"."+name)...)
		case open:
			errs = append(errs, d.violations(others, v[name], at+"."+name)...)
		case closed:
			errs = append(errs, at+"."+name+": is answered but not described")
		}
	}
	return errs
}

func hasType(want, v any) bool {
	if list, ok := want.([]any); ok {
		return slices.ContainsFunc(list, func(w any) bool { return hasType(w, v) })
	}
	switch want {
	case "object":
		_, ok := v.(object)
		return ok
	case "array":
		_, ok := v.([]any)
		return ok
	case "string":
		_, ok := v.(string)
		return ok
	case "boolean":
		_, ok := v.(bool)
		return ok
	case "null":
		return v == nil
	case "integer":
		f, ok := v.(float64)
		return ok && f == float64(int64(f))
	case "number":
		_, ok := v.(float64)
		return ok
	}
	return want == nil
}

// TestOpenAPIIsComplete checks that the description is one: all that is served,
// nothing twice, every reference leads somewhere, every kind has its documents.
func TestOpenAPIIsComplete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standalone)
	d := describedBy(t, w)
	if v := d.doc["openapi"]; v != "3.1.0" {
		t.Errorf("openapi %v", v)
	}
	ids := map[string]string{}
	for path, item := range d.doc["paths"].(object) {
		for method, op := range item.(object) {
			if method == "parameters" {
				continue
			}
			op := op.(object)
			id := op["operationId"].(string)
			if other, twice := ids[id]; twice {
				t.Errorf("%s and %s %s have the same operationId %s", other, method, path, id)
			}
			ids[id] = method + " " + path
			if op["summary"] == "" || op["responses"] == nil {
				t.Errorf("%s %s is not described", method, path)
			}
			for _, p := range op["parameters"].([]any) {
				if p.(object)["in"] == "path" {
					t.Errorf("%s %s: parameters of the path belong to the path", method, path)
				}
			}
		}
	}
	for _, r := range w.api.served {
		for method := range r.methods {
			if d.operation(method, pathParameter.ReplaceAllString(publicPath(r.pattern), "x")) == nil {
				t.Errorf("%s %s is served and not described", method, r.pattern)
			}
		}
	}
	a := w.get(openAPIPath)
	for _, m := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(a.Body, -1) {
		if d.schemas[m[1]] == nil {
			t.Errorf("the schema %s is referred to and does not exist", m[1])
		}
	}
	for k := range w.kinds.All() {
		if !k.Internal && d.schemas[string(k.Type)] == nil {
			t.Errorf("no schema describes %s", k.Type)
		}
	}
}

// TestOpenAPIAsYAML checks that both forms say the same.
func TestOpenAPIAsYAML(t *testing.T) {
	t.Parallel()
	w := newWorld(t, standalone)
	a := w.do(request{path: openAPIPath, header: map[string]string{"Accept": "application/yaml"}})
	w.wantStatus(a, 200)
	if got := a.Header.Get("Content-Type"); got != "application/yaml" {
		t.Errorf("content type %q", got)
	}
	var fromYAML any
	if err := yaml.Unmarshal([]byte(a.Body), &fromYAML); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fromYAML, decoded(w.get(openAPIPath).Body)) {
		t.Error("YAML and JSON say different things")
	}
	a = w.do(request{path: "/who-am-i", header: map[string]string{"Accept": "application/yaml"}})
	w.wantStatus(a, 406) // elsewhere answers are JSON only
}

// TestAnswersAreAsDescribed makes the calls that were recorded from the reference
// system, in a world that has the resources that it had, and holds every answer
// against the description.
func TestAnswersAreAsDescribed(t *testing.T) {
	t.Parallel()
	f := conformanceFile(t, "rest.jsonl")
	if f == nil {
		return
	}
	type call struct {
		CP, Method, Path  string
		Status            int
		Request, Response json.RawMessage
	}
	var calls []call
	eachLine(t, f, func(line []byte) {
		var c call
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	})
	for cp, site := range map[string]resource.Site{"global": global, "zone": federated} {
		t.Run(cp, func(t *testing.T) {
			w := newWorld(t, site)
			for _, c := range calls {
				if c.CP == cp && c.Method == "GET" && c.Status == 200 {
					w.seed(c.Path, c.Response)
				}
			}
			w.withKeys()
			d := describedBy(t, w)
			succeeded, checked := 0, 0
			for _, c := range calls {
				if c.CP != cp {
					continue
				}
				a := w.do(request{method: c.Method, path: c.Path, body: string(c.Request)})
				checked++
				if a.Status < 300 {
					succeeded++
				}
				for _, v := range d.check(c.Method, c.Path, a) {
					t.Errorf("%s %s: %d: %s", c.Method, c.Path, a.Status, v)
				}
			}
			t.Logf("%d answers are as described, %d of them successes", checked, succeeded)
			if succeeded*3 < checked {
				t.Errorf("only %d of %d calls succeeded: this compares too little", succeeded, checked)
			}
		})
	}
}

// seed stores the resources that an answer of the reference shows.
func (w *world) seed(path string, response json.RawMessage) {
	w.t.Helper()
	var list struct{ Items []json.RawMessage }
	_ = json.Unmarshal(response, &list)
	for _, doc := range append(list.Items, response) {
		var head struct {
			Type       resource.Type
			Mesh, Name string
		}
		_ = json.Unmarshal(doc, &head) // some answers are no resources
		k := w.kinds.ByType(head.Type)
		if k == nil || k.Internal || head.Name == "" || k.AdminOnly {
			continue
		}
		o, err := k.DecodeJSON(doc)
		if err != nil {
			continue // shortened in the record
		}
		o, err = k.New(resource.Meta{ID: resource.ID{Type: k.Type, Mesh: head.Mesh, Name: head.Name}, Labels: o.Labels}, o.Spec, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		rev, err := w.store.Write(w.t.Context(), store.Put(o, store.Any, "test"))
		if err == nil {
			_, err = w.view.Wait(w.t.Context(), rev)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestDescriptions checks that doc comments reach the description, by the names
// that users know.
func TestDescriptions(t *testing.T) {
	all := map[string]string{}
	if err := json.Unmarshal(descriptionsJSON, &all); err != nil {
		t.Fatalf("descriptions.json: %v; make it with make generate", err)
	}
	w := newWorld(t, standalone)
	s := describedBy(t, w).schemas["MeshTimeout"].(object)
	for _, step := range []string{"spec", "to"} {
		s = s["properties"].(object)[step].(object)
	}
	if text, _ := s["description"].(string); !strings.HasPrefix(text, "to ") {
		t.Errorf("MeshTimeout.spec.to is described as %q", text)
	}
}
