package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

// TestAssignmentsNeedRights shows that the rules of reading Dataplanes hold for
// those who ask which proxies have metrics.
func TestAssignmentsNeedRights(t *testing.T) {
	c := clustertest.New(t)
	for name, want := range map[string]int{"none": http.StatusUnauthorized, "read": http.StatusOK} {
		zone, err := c.Zone(t.Context(), name, "ATOLL_API_SERVER_AUTHN_LOCALHOST_IS_ADMIN=false", "ATOLL_ACCESS_ANONYMOUS="+name)
		must(t, err)
		url := fmt.Sprintf("http://127.0.0.1:%d/v3/discovery:monitoringassignments?fetch-timeout=0s", zone.MADSPort)
		if got := ask(t.Context(), t, url, ""); got != want {
			t.Errorf("without a token and with access.anonymous %s: %d, want %d", name, got, want)
		}
		if got := ask(t.Context(), t, url, "Bearer nonsense"); got != http.StatusUnauthorized {
			t.Errorf("with a token that is none: %d", got)
		}
	}
}

func ask(ctx context.Context, t *testing.T, url, authorization string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"node": {"id": "x"}}`))
	must(t, err)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	_ = resp.Body.Close()
	return resp.StatusCode
}
