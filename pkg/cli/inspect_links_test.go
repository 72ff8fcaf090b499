package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Under the zones stands who reaches whom, and why not. A control plane that
// tells nothing of it, or not to the caller, is no error.
func TestInspectZonesShowsLinks(t *testing.T) {
	links := fmt.Sprintf(`{"zones": [{"name": "east", "lost": true}, {"name": "north"}, {"name": "west"}], "links": [
		{"observer": "north", "observed": "east", "state": "Down", "withdrawn": true, "since": %q, "flaps": 2, "loss": 1, "reason": "504: timeout"},
		{"observer": "north", "observed": "west", "state": "Up", "rttMillis": 2.34},
		{"observer": "west", "observed": "north", "state": "Degraded", "rttMillis": 80, "loss": 0.25, "reason": "many probes are lost"}]}`,
		time.Now().Add(-time.Minute).Format(time.RFC3339))
	for name, c := range map[string]struct {
		status int
		body   string
		want   []string
	}{
		"links": {200, links, []string{
			`FROM \\ TO +east \(LOST\) +north +west`, `north +Down withdrawn +- +Up 2.3ms`, `west +- +Degraded 80.0ms -25% +-`,
			`FROM +TO +STATE +SINCE +FLAPS +REASON`, `north +east +Down +\S+ +2 +504: timeout`, `west +north +Degraded +\S+ +0 +many probes are lost`,
		}},
		"none":      {200, `{"zones": [], "links": []}`, nil},
		"not known": {404, `{"status": 404, "title": "Not Found"}`, nil},
		"not shown": {403, `{"status": 403, "title": "Access Denied"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/zones/_links" {
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, c.body)
					return
				}
				_, _ = io.WriteString(w, `{"total": 1, "items": [{"name": "east"}], "next": null}`)
			}))
			defer server.Close()
			var out bytes.Buffer
			a := &app{out: &out, err: io.Discard, output: "table", server: server.URL, noConfig: true, logLevel: "off", timeout: time.Minute}
			cmd := a.inspectZonesCmd()
			cmd.SetArgs(nil)
			cmd.SetContext(t.Context())
			if err := cmd.RunE(cmd, nil); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			for _, want := range c.want {
				if !regexp.MustCompile(`(?m)^` + want + `\s*$`).MatchString(text) {
					t.Errorf("no line %q in\n%s", want, text)
				}
			}
			if c.want == nil && strings.Contains(text, "FROM") {
				t.Errorf("shows\n%s", text)
			}
		})
	}
}
