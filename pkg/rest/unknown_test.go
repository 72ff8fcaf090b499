package rest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A slip in the name of a field is accepted, as the reference does, but not in
// silence.
func TestUnknownFieldsAreWarnedAbout(t *testing.T) {
	w := newWorld(t, standalone)
	warningsOf := func(a answer) []string {
		t.Helper()
		var body struct{ Warnings []string }
		if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
			t.Fatalf("%s: %v", a.Body, err)
		}
		return body.Warnings
	}
	const timeout = "/meshes/default/meshtimeouts/t"
	slip := `{"type":"MeshTimeout","mesh":"default","name":"t","labls":{},"spec":{"to":[{"targetRef":{"kind":"Mesh"},
		"default":{"connectionTimeout":"2s","http":{"requestTimeout":"1s","requestTimout":"9s","MAXSTREAMDURATION":"3s"}}}]}}`
	want := []string{
		"labls is no field of MeshTimeout and has no effect",
		"spec.to[0].default.http.requestTimout is no field of MeshTimeout and has no effect",
	}
	for _, query := range []string{"?dryRun=true", ""} {
		if got := warningsOf(w.put(timeout+query, slip)); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	stored := w.get(timeout).Body
	if !strings.Contains(stored, `"maxStreamDuration": "3s"`) { // letters of another case are no slip
		t.Error(stored)
	}
	if got := warningsOf(w.put(timeout, stored)); len(got) != 0 { // what was read can be written
		t.Errorf("%q", got)
	}

	got := warningsOf(w.put("/meshes/default/dataplanes/d", `{"type":"Dataplane","mesh":"default","name":"d","spec":{},
		"networking":{"address":"192.0.2.1","inbounds":[],"inbound":[{"port":80,"servicePort":81,"tgas":{}}]}}`))
	want = []string{
		"networking.inbound[0].tgas is no field of Dataplane and has no effect",
		"networking.inbounds is no field of Dataplane and has no effect",
		"spec is no field of Dataplane and has no effect",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	many := `{"type":"Mesh","name":"m"`
	for i := range maxUnknown + 2 {
		many += fmt.Sprintf(`,"x%d":1`, i)
	}
	if got := warningsOf(w.put("/meshes/m", many+"}")); len(got) != maxUnknown+1 {
		t.Errorf("%d warnings: %q", len(got), got)
	}
}
