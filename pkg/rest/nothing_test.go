package rest

import (
	"strings"
	"testing"
)

// TestWhereNoRouteLeads: a slash too many is none, names are for destinations
// only, and all else is a problem that says where to look.
func TestWhereNoRouteLeads(t *testing.T) {
	w := inspectable(t)
	for path, status := range map[string]int{
		"/meshes/": 200,
		"/meshes/default/dataplanes/web-1/?format=k8s":                 200,
		"/meshes/default/dataplanes/none/":                             404,
		"/_kri/":                                                       404,
		"/nothing/":                                                    404,
		"/meshes/default/meshservices/api/_hostnames":                  200,
		"/meshes/default/meshservices/none/_hostnames":                 404,
		"/meshes/default/meshtimeouts/all/_hostnames":                  400,
		"/meshes/default/meshtimeouts/none/_hostnames":                 400,
		"/meshes/default/dataplanes/web-1/_hostnames":                  400,
		"/meshes/default/somethings/api/_hostnames":                    400,
		"/meshes/default/dataplanes/web-1/_layouts":                    404,
		"/meshes/default/meshservices/api/_dataplanes/":                200,
		webProxy + "_inbounds/kri_none_default___web-1_http/_policies": 400,
		webProxy + "_outbounds/kri_none_default___api_http/_policies":  400,
		webProxy + "_outbounds/kri_msvc_default___api_http/_routes/kri_none_default___split_/_policies":                  400,
		webProxy + "_outbounds/kri_msvc_default___api_http/_routes/kri_mhttpr_default___none_/_policies":                 200,
		strings.TrimSuffix(webProxy, "/") + "/_outbounds/kri_msvc_default___api_http/_routes/none/_policies?shadow=true": 400,
	} {
		a := w.get(path)
		w.wantStatus(a, status)
		if status >= 400 {
			problemOf(t, a)
		}
	}
	for _, r := range []request{
		{method: "POST", path: "/meshes/", body: "{}"},
		{method: "PUT", path: "/meshes/default/meshtimeouts/", body: "{}"},
		{method: "OPTIONS", path: "/meshes"},
	} {
		if a := w.do(r); a.Status != 405 || a.Header.Get("Allow") == "" {
			t.Errorf("%s %s: %d, Allow %q", r.method, r.path, a.Status, a.Header.Get("Allow"))
		}
	}
	a := w.do(request{method: "PUT", path: "/meshes/other/", body: `{"type":"Mesh","name":"other"}`})
	w.wantStatus(a, 201)
	w.wantStatus(w.get("/meshes/other"), 200)
}
