package cp

import "testing"

// Connections to other services do not keep a service from being drained, whatever
// mesh, zone and port are called.
func TestPassing(t *testing.T) {
	const stats = `cluster.kri_msvc_shop_east__backend_8080.upstream_cx_active: 3
cluster.kri_msvc_shop_east__backend_http.upstream_cx_active: 4
cluster.kri_msvc_shop_east__east_http.upstream_cx_active: 10
cluster.kri_mzsvc_shop_mesh___web_backend.upstream_cx_active: 20
cluster.kri_msvc_shop_east__backend_8080.upstream_cx_total: 100
cluster.access_log_sink.upstream_cx_active: 1
server.live: 1
`
	for service, want := range map[string]int64{"": 37, "backend": 7, "east": 10, "web": 20, "shop": 0, "http": 0, "none": 0} {
		if got := passing(stats, service); got != want {
			t.Errorf("%q: %d connections, want %d", service, got, want)
		}
	}
}
