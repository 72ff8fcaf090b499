package dpserver

import (
	"regexp"
	"slices"
	"testing"
)

// The patterns that begin where a name does find what those find that may begin
// anywhere, and do so in a time that does not grow with the square of the name.
func TestTagsOfStatistics(t *testing.T) {
	for anywhere, anchored := range map[string]string{
		`^grpc.*streams_closed(_([0-9]+))`: `^grpc\..*streams_closed(_([0-9]+))`,
		`((.+?)\.)rbac\.`:                  `^((.+?)\.)rbac\.`,
	} {
		found := 0
		for _, name := range []string{
			"grpc.ads.streams_closed_14", "grpc.ads.streams_total", "cluster.a.grpc.streams_closed_1",
			"self_inbound_dp_web.rbac.allowed", "http.self_inbound_dp_web.rbac.denied", "listener.127.0.0.1_80.rbac.rbac.logged",
			"rbac.allowed", ".rbac.allowed", "a.rbac", "cluster.kri_msvc_default_east__backend_http.upstream_rq_total",
		} {
			want, got := regexp.MustCompile(anywhere).FindStringSubmatch(name), regexp.MustCompile(anchored).FindStringSubmatch(name)
			if len(want) > 0 {
				found++
			}
			if !slices.Equal(want, got) {
				t.Errorf("%s in %s: %q, want %q", anchored, name, got, want)
			}
		}
		if found == 0 {
			t.Errorf("%s is in no name", anywhere)
		}
	}
}
