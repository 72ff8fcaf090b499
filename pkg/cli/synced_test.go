package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestSyncedNames: who asks a global for a name that a zone gave is told under
// which names sync stores such resources there.
func TestSyncedNames(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/_resources":
			fmt.Fprint(w, `{"resources":[{"name":"Dataplane","scope":"Mesh","path":"dataplanes","singular":"dataplane"},{"name":"MeshTimeout","scope":"Mesh","path":"meshtimeouts","policy":{"isTargetRef":true}}]}`)
		case r.URL.Path == "/meshes/shop/dataplanes" && r.URL.Query().Get("filter[labels.kuma.io/display-name]") == "web-1":
			fmt.Fprint(w, `{"total":2,"items":[{"name":"web-1-abc","labels":{"kuma.io/zone":"east"}},{"name":"web-1-def","labels":{"kuma.io/zone":"west"}}],"next":null}`)
		case strings.Count(r.URL.Path, "/") == 3:
			fmt.Fprint(w, `{"total":0,"items":[],"next":null}`)
		case r.URL.Path == "/meshes/shop/dataplanes/young":
			fmt.Fprint(w, `{"name":"young"}`)
		default:
			http.Error(w, `{"title":"Could not retrieve a resource","status":404}`, http.StatusNotFound)
		}
	}))
	defer server.Close()
	const elsewhere = "known here as:\n  web-1-abc (zone east)\n  web-1-def (zone west)"
	for args, want := range map[string]string{
		"get dataplane web-1":         elsewhere,
		"inspect dataplane web-1":     elsewhere,
		"get dataplane other":         `there is no Dataplane with name "other" in mesh "shop"`,
		"inspect dataplane other":     `there is no Dataplane with name "other" in mesh "shop"`,
		"inspect dataplane young":     "Could not retrieve a resource", // it is there, and has no connection
		"inspect meshtimeout nothing": `there is no MeshTimeout with name "nothing" in mesh "shop"`,
	} {
		var out, err strings.Builder
		code := Main(append(strings.Fields(args), "-m", "shop", "--server", server.URL, "--no-config"), nil, &out, &err)
		if code != exitNotFound || !strings.Contains(err.String(), want) || want != elsewhere && strings.Contains(err.String(), "known here") {
			t.Errorf("%s: exit code %d, %q", args, code, err.String())
		}
	}
}

func TestUntil(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "expired", 90*time.Second + time.Second/2: "90s", 49*time.Hour + time.Minute: "2d"} {
		if got := until(time.Now().Add(d)); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}
