package meshretry

// conditions are the items of retryOn that Envoy has a word for.
var conditions = map[string]string{
	"5xx":                     "5xx",
	"GatewayError":            "gateway-error",
	"Reset":                   "reset",
	"Retriable4xx":            "retriable-4xx",
	"ConnectFailure":          "connect-failure",
	"EnvoyRatelimited":        "envoy-ratelimited",
	"RefusedStream":           "refused-stream",
	"Http3PostConnectFailure": "http3-post-connect-failure",
}

// methods are the items of retryOn that confine retries to methods.
var methods = map[string]string{
	"HttpMethodConnect": "CONNECT",
	"HttpMethodDelete":  "DELETE",
	"HttpMethodGet":     "GET",
	"HttpMethodHead":    "HEAD",
	"HttpMethodOptions": "OPTIONS",
	"HttpMethodPatch":   "PATCH",
	"HttpMethodPost":    "POST",
	"HttpMethodPut":     "PUT",
	"HttpMethodTrace":   "TRACE",
}
