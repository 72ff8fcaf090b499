package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// gone expects that a control plane does not know a resource.
func gone(t *testing.T, cp *cluster.ControlPlane, path string) {
	t.Helper()
	err := cp.Do(t.Context(), http.MethodGet, path, nil, nil)
	var status *cluster.StatusError
	if !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Errorf("%s should not have %s: %v", cp.Name, path, err)
	}
}

func token(t *testing.T, cp *cluster.ControlPlane, path string, body map[string]any) string {
	t.Helper()
	var text string
	body["validFor"] = "1h"
	if err := cp.Do(t.Context(), http.MethodPost, path, body, &text); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// testZoneTokens starts zones that may not be who they say, or do not trust the
// global. The world's own zones show that the right token and root work.
func testZoneTokens(t *testing.T, w *clustertest.World) {
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("a.b.c"), 0o600); err != nil {
		t.Fatal(err)
	}
	const path = "ATOLL_MULTIZONE_ZONE_KDS_AUTH_CP_TOKEN_PATH="
	for _, tc := range []struct {
		zone, env string
		says      []string // in the zone's log
	}{
		{"without", path, []string{"not connected to the global", "oken"}},
		{"garbage", path + garbage, []string{"not connected to the global", "oken"}},
		{"stolen", path + token(t, w.Global, "/tokens/zone", map[string]any{"zone": "east", "scope": []string{"cp"}}), []string{"not connected to the global", "oken"}},
		{"misscoped", path + token(t, w.Global, "/tokens/zone", map[string]any{"zone": "misscoped", "scope": []string{"ingress"}}), []string{"not connected to the global", "oken"}},
		{"distrustful", "ATOLL_MULTIZONE_ZONE_KDS_ROOT_CA_FILE=" + w.East.CAFile(), []string{"not connected to the global", "certificate"}},
	} {
		t.Run(tc.zone, func(t *testing.T) {
			z, err := w.FederatedZone(t.Context(), w.Global, tc.zone, tc.env)
			if err != nil {
				t.Fatal(err)
			}
			defer z.Kill()
			if err := clustertest.AwaitLog(t.Context(), clustertest.Patience, z.Process, tc.says...); err != nil {
				t.Error(err)
			}
			gone(t, w.Global, "/zones/"+tc.zone)
			gone(t, z, "/meshes/"+clustertest.Mesh)
		})
	}
}

// testDataplaneTokens starts proxies that may not be who they say.
func testDataplaneTokens(t *testing.T, w *clustertest.World) {
	dp := func(mesh, name string) string {
		return token(t, w.Global, "/tokens/dataplane", map[string]any{"mesh": mesh, "name": name})
	}
	w.MustApply(t, w.Global, "type: Mesh\nname: other\n")
	for _, tc := range []struct {
		name, file string
		who        *cluster.Process
		says       []string
	}{
		{"without", "", nil, []string{"oken"}},
		{"stolen", dp(clustertest.Mesh, "client-1"), w.East.Process, []string{"a proxy was refused", "proxy=stolen", "client-1"}},
		{"foreign", dp("other", "foreign"), w.East.Process, []string{"a proxy was refused", "proxy=foreign"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			spec := cluster.ProxySpec{Mesh: clustertest.Mesh, Name: tc.name}
			if tc.file != "" {
				spec.Env = []string{"ATOLL_DATAPLANE_RUNTIME_TOKEN_PATH=" + tc.file}
			}
			var p *cluster.Proxy
			ended := make(chan error, 1)
			go func() {
				var err error
				p, err = w.Proxy(ctx, w.East.ControlPlane, nil, spec)
				ended <- err
			}()
			var err error
			if tc.who == nil { // it does not even get its first document
				err = <-ended
				if err == nil || p.Exited() == nil {
					t.Fatal("the agent runs")
				}
				err = clustertest.AwaitLog(t.Context(), clustertest.Patience, p.Process, tc.says...)
			} else {
				err = clustertest.AwaitLog(t.Context(), clustertest.Patience, tc.who, tc.says...)
				cancel()
				if ready := <-ended; ready == nil {
					t.Error("the proxy became ready")
				}
				defer p.Kill()
			}
			if err != nil {
				t.Error(err)
			}
			gone(t, w.East.ControlPlane, fmt.Sprintf("/meshes/%s/dataplanes/%s", clustertest.Mesh, tc.name))
		})
	}
}

// TestUserTokens reads the administrator's token where the control plane runs, as
// the documentation says, and then takes away that place's privilege.
func TestUserTokens(t *testing.T) {
	c, cp := standalone(t)
	out, errOut, code := clustertest.Ctl(t, c, cp.URL, "", "get", "globalsecret", "admin-user-token", "-o", "json")
	var secret struct{ Data []byte }
	if err := json.Unmarshal([]byte(out), &secret); code != 0 || err != nil {
		t.Fatalf("exit code %d: %v\n%s%s", code, err, out, errOut)
	}
	if err := cp.Stop(); err != nil {
		t.Fatal(err)
	}
	cp, err := c.Zone(t.Context(), cp.Zone, "ATOLL_API_SERVER_AUTHN_LOCALHOST_IS_ADMIN=false")
	if err != nil {
		t.Fatal(err)
	}
	admin := string(secret.Data)
	user, errOut, code := clustertest.Ctl(t, c, cp.URL, "", "generate", "user-token", "--name", "jane", "--group", "team", "--valid-for", "1h", "--token", admin)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	user = strings.TrimSpace(user)
	const mesh = "type: Mesh\nname: m\n"
	for _, tc := range []struct {
		name, token, input string
		args               []string
		code               int
		says               string
	}{
		{"nobody reads", "", "", []string{"get", "meshes"}, 5, "authenticate with a user token"},
		{"nobody writes", "", mesh, []string{"apply", "-f", "-"}, 5, "authenticate with a user token"},
		{"a broken token", "nonsense", "", []string{"get", "meshes"}, 5, "token"},
		{"a token that was changed", user[:len(user)-6] + "AAAAAA", "", []string{"get", "meshes"}, 5, "token"},
		{"a user reads", user, "", []string{"get", "meshes"}, 0, ""},
		{"a user writes no secrets", user, "type: GlobalSecret\nname: s\ndata: aGk=\n", []string{"apply", "-f", "-"}, 5, "jane"},
		{"a user makes no tokens", user, "", []string{"generate", "zone-token", "--zone", "east", "--valid-for", "1h"}, 5, "jane"},
		{"the administrator writes", admin, mesh, []string{"apply", "-f", "-"}, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, errOut, code := clustertest.Ctl(t, c, cp.URL, tc.input, append(tc.args, "--token", tc.token)...)
			if code != tc.code || !strings.Contains(errOut, tc.says) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", code, tc.code, tc.says, out, errOut)
			}
		})
	}
}
