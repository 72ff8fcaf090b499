package ir

import "time"

// Limits bounds what is under way to a cluster at once; nil is Envoy's default.
type Limits struct {
	Connections     *uint32 `json:"connections,omitempty"`
	ConnectionPools *uint32 `json:"connectionPools,omitempty"`
	PendingRequests *uint32 `json:"pendingRequests,omitempty"`
	Requests        *uint32 `json:"requests,omitempty"`
	Retries         *uint32 `json:"retries,omitempty"`
	// RetryShare bounds retries where Retries does not.
	RetryShare *RetryShare `json:"retryShare,omitempty"`
}

// RetryShare bounds the retries under way to a percentage of all requests under
// way, or to a number where those are few.
type RetryShare struct {
	Percent float64 `json:"percent"`
	Least   uint32  `json:"least"`
}

// Outliers takes endpoints out for a while that fail. What is nil does not.
type Outliers struct {
	Interval           *time.Duration `json:"interval,omitempty"`
	BaseEjection       *time.Duration `json:"baseEjectionDuration,omitempty"`
	MaxEjectionPercent *uint32        `json:"maxEjectionPercent,omitempty"`
	// LongestEjection bounds how long an endpoint is out that was out before.
	LongestEjection *time.Duration `json:"longestEjectionDuration,omitempty"`
	SplitLocal      bool           `json:"splitLocal,omitempty"` // errors of connecting count apart
	// Consecutive failures: all, those of gateways, those of connecting.
	Failures        *uint32            `json:"failures,omitempty"`
	GatewayFailures *uint32            `json:"gatewayFailures,omitempty"`
	LocalFailures   *uint32            `json:"localFailures,omitempty"`
	SuccessRate     *SuccessRate       `json:"successRate,omitempty"`
	Percentage      *FailurePercentage `json:"percentage,omitempty"`
}

// SuccessRate finds endpoints below the mean of all.
type SuccessRate struct {
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	Deviations    *uint32 `json:"deviations,omitempty"` // thousandths of the standard deviation
}

// FailurePercentage finds endpoints above a bound.
type FailurePercentage struct {
	MinimumHosts  *uint32 `json:"minimumHosts,omitempty"`
	RequestVolume *uint32 `json:"requestVolume,omitempty"`
	Threshold     *uint32 `json:"threshold,omitempty"`
}

// HealthCheck asks endpoints whether they serve. One of HTTP, TCP and GRPC is
// set.
type HealthCheck struct {
	Interval              time.Duration    `json:"intervalDuration"`
	Timeout               time.Duration    `json:"timeout"`
	UnhealthyThreshold    uint32           `json:"unhealthyThreshold"`
	HealthyThreshold      uint32           `json:"healthyThreshold"`
	InitialJitter         *time.Duration   `json:"initialJitterDuration,omitempty"`
	IntervalJitter        *time.Duration   `json:"intervalJitterDuration,omitempty"`
	IntervalJitterPercent uint32           `json:"intervalJitterPercent,omitempty"`
	NoTrafficInterval     *time.Duration   `json:"noTrafficDuration,omitempty"`
	ReuseConnection       *bool            `json:"reuseConnection,omitempty"`
	EventLog              string           `json:"eventLog,omitempty"` // a file
	LogFailures           bool             `json:"logFailures,omitempty"`
	HTTP                  *HTTPHealthCheck `json:"http,omitempty"`
	TCP                   *TCPHealthCheck  `json:"tcp,omitempty"`
	GRPC                  *GRPCHealthCheck `json:"grpc,omitempty"`
}

// HTTPHealthCheck requests a path.
type HTTPHealthCheck struct {
	Path     string    `json:"path"`
	Host     string    `json:"host,omitempty"`
	HTTP2    bool      `json:"http2,omitempty"`
	Headers  HeaderOps `json:"headers,omitzero"`
	Statuses []uint32  `json:"statuses,omitempty"` // none: 200
}

// TCPHealthCheck connects, sends, and looks for each of Receive in the answer.
type TCPHealthCheck struct {
	Send    string   `json:"send,omitempty"`
	Receive []string `json:"receive,omitempty"`
}

// GRPCHealthCheck calls the health service of gRPC.
type GRPCHealthCheck struct {
	Service   string `json:"service,omitempty"`
	Authority string `json:"authority,omitempty"`
}
