package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/api/client"
)

// typed is the generated client of a world.
func (w *world) typed() *client.Client {
	return &client.Client{Send: func(_ context.Context, method, path string, header http.Header, body []byte) ([]byte, error) {
		headers := map[string]string{}
		for name := range header {
			headers[name] = header.Get(name)
		}
		a := w.do(request{method: method, path: path, body: string(body), header: headers})
		if a.Status/100 != 2 {
			return nil, fmt.Errorf("%d %s", a.Status, a.Body)
		}
		return []byte(a.Body), nil
	}}
}

// The generated client reads, writes and lists, with parameters in the query and
// in headers, and gets errors.
func TestGeneratedClient(t *testing.T) {
	w := newWorld(t, standalone)
	w.withKeys()
	c, ctx := w.typed(), t.Context()
	who, err := c.GetWhoAmI(ctx)
	if err != nil || who.Name != "mesh-system:admin" {
		t.Errorf("%+v, %v", who, err)
	}
	second, text := "1s", "web"
	body := client.MeshTimeout{Type: "MeshTimeout", Name: "a", Mesh: "default", Spec: client.MeshTimeoutSpec{
		TargetRef: &client.MeshTimeoutSpecTargetRef{Kind: "Dataplane", Labels: map[string]string{"app": text}},
		To: []client.MeshTimeoutSpecToItem{{
			TargetRef: client.MeshTimeoutSpecToItemTargetRef{Kind: "Mesh"}, Default: &client.MeshTimeoutSpecToItemDefault{ConnectionTimeout: &second},
		}},
	}}
	if _, err := c.PutMeshesMeshMeshtimeoutsName(ctx, "default", "a", body, client.WithDryRun(true)); err != nil {
		t.Error(err)
	}
	if _, err := c.GetMeshesMeshMeshtimeoutsName(ctx, "default", "a"); err == nil || !strings.HasPrefix(err.Error(), "404 ") {
		t.Errorf("after a dry run: %v", err)
	}
	for _, name := range []string{"a", "b"} {
		body.Name = name
		if _, err := c.PutMeshesMeshMeshtimeoutsName(ctx, "default", name, body, client.WithIfNoneMatch("*")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.GetMeshesMeshMeshtimeoutsName(ctx, "default", "a")
	if err != nil || got.CreationTime.IsZero() || got.Kri == nil || !reflect.DeepEqual(got.Spec, body.Spec) {
		t.Errorf("%+v, %v", got, err)
	}
	list, err := c.GetMeshesMeshMeshtimeouts(ctx, "default", client.WithSize(1), client.WithFilter("kuma.io/display-name", "b"))
	if err != nil || list.Total != 1 || len(list.Items) != 1 || list.Items[0].Name != "b" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := c.DeleteMeshesMeshMeshtimeoutsName(ctx, "default", "a", client.WithIfMatch(`"1"`)); err == nil || !strings.HasPrefix(err.Error(), "412 ") {
		t.Errorf("delete of another version: %v", err)
	}
	if _, err := c.DeleteMeshesMeshMeshtimeoutsName(ctx, "default", "a"); err != nil {
		t.Error(err)
	}
	hour := "1h"
	token, err := c.PostTokensUser(ctx, client.PostTokensUserBody{Name: "jane", ValidFor: hour})
	if err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("%q, %v", token, err)
	}
}

// What the API answers about a resource survives the types of the client.
func TestGeneratedTypesLoseNothing(t *testing.T) {
	w := newWorld(t, standalone)
	w.wantStatus(w.put("/meshes/default/dataplanes/web", dataplaneBody("web", map[string]string{"app": "web"})), 201)
	w.wantStatus(w.put("/meshes/default/meshservices/web", `{"type":"MeshService","mesh":"default","name":"web","spec":{"selector":{"dataplaneLabels":{"matchLabels":{"app":"web"}}},"ports":[{"port":80,"targetPort":"http"}]}}`), 201)
	w.wantStatus(w.put("/meshes/default/meshhttproutes/web", `{"type":"MeshHTTPRoute","mesh":"default","name":"web","spec":{"to":[{"targetRef":{"kind":"MeshService","labels":{"a":"b"}},"rules":[{
		"matches":[{"path":{"type":"PathPrefix","value":"/"}}],"default":{"filters":[{"type":"RequestMirror","requestMirror":{"percentage":"0.5","backendRef":{"kind":"MeshService","labels":{"a":"b"}}}}]}}]}]}}`), 201)
	for path, into := range map[string]any{
		"/meshes/default/dataplanes/web": &client.Dataplane{}, "/meshes/default/meshservices/web": &client.MeshService{},
		"/meshes/default/meshhttproutes/web": &client.MeshHTTPRoute{}, "/meshes/default": &client.Mesh{},
		"/meshes/default/dataplanes/web/_overview": &client.DataplaneOverview{}, "/_resources": &client.GetItsResourcesAnswer{},
	} {
		a := w.get(path)
		w.wantStatus(a, 200)
		if err := json.Unmarshal([]byte(a.Body), into); err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		again, err := json.Marshal(into)
		if err != nil {
			t.Fatal(err)
		}
		var want, got any
		_ = json.Unmarshal([]byte(a.Body), &want)
		_ = json.Unmarshal(again, &got)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: answered\n%s\nkept\n%s", path, a.Body, again)
		}
	}
}
