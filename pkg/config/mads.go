package config

// MonitoringAssignmentServer tells Prometheus which proxies have metrics for it.
type MonitoringAssignmentServer struct {
	Enabled             bool     `json:"enabled"`
	Port                int      `json:"port"`                // 0: it is not served
	DefaultFetchTimeout Duration `json:"defaultFetchTimeout"` // of requests that name none
	APIVersions         []string `json:"apiVersions"`         // v1 is the one there is
	TLSEnabled          bool     `json:"tlsEnabled"`
	TLS
}
