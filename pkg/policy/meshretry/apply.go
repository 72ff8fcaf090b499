package meshretry

import (
	"slices"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

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

var statuses = map[GRPCStatus]string{
	"Canceled":          "cancelled",
	"DeadlineExceeded":  "deadline-exceeded",
	"Internal":          "internal",
	"ResourceExhausted": "resource-exhausted",
	"Unavailable":       "unavailable",
}

// What is tried again when retryOn names no condition.
var (
	defaultHTTP = []string{"gateway-error", "connect-failure", "refused-stream"}
	// Without retryOn requests that may be processed twice are tried again
	// whenever they got no answer, others when nobody has processed them. Calls of
	// gRPC are among the others, and are tried again when their server says so.
	repeatable = append(defaultHTTP[:len(defaultHTTP):len(defaultHTTP)], "reset")
	untouched  = []string{"connect-failure", "refused-stream", "reset-before-request"}
	// What servers of gRPC answer to calls that they have not carried out.
	refused = []string{"cancelled", "resource-exhausted", "unavailable"}
)

const (
	// defaultBase is the shortest time between tries.
	defaultBase = 25 * time.Millisecond
	// attemptPause is about the time between the first two attempts to connect.
	attemptPause = 25 * time.Millisecond
	// hostAttempts is how often an endpoint is looked for that hostSelection
	// allows. With Envoy's one, half of the retries between two endpoints would
	// not find the other.
	hostAttempts = 5
	// triesPerPriority is after how many tries another priority is tried: two, so
	// that one lost endpoint does not make requests leave the zone.
	triesPerPriority = 2
)

// outbound writes how the requests and connections to a destination are retried.
func outbound(c Conf, o *policy.Outbound) {
	for _, chain := range o.Listener.Chains {
		if chain.TCP != nil && c.TCP != nil && c.TCP.MaxConnectAttempt != nil {
			chain.TCP.MaxConnectAttempts = *c.TCP.MaxConnectAttempt
			if chain.TCP.MaxConnectAttempts > 1 {
				// Else all attempts are over before Envoy has taken out an endpoint that
				// is gone, and go there again.
				pause := attemptPause
				chain.TCP.AttemptPause = &pause
			}
		}
	}
	if o.Routes == nil {
		return
	}
	for _, r := range o.Routes.Routes {
		route(c, o.Dest, r)
	}
}

// route writes how the requests of a route are retried. One that is named by
// itself loses what the destination has when that is not said again.
func route(c Conf, to policy.Dest, r *ir.Route) {
	if r.Forward == nil {
		return
	}
	if to.Port.Protocol == ir.GRPC {
		r.Forward.Retry = c.GRPC.retry()
	} else {
		r.Forward.Retry = c.HTTP.retry()
	}
}

func (h *HTTP) retry() *ir.Retry {
	if h == nil || h.NumRetries != nil && *h.NumRetries == 0 {
		return nil
	}
	r := &ir.Retry{Times: h.NumRetries, PerTryTimeout: limit(h.PerTryTimeout), HostAttempts: h.HostSelectionMaxAttempts}
	for _, item := range h.RetryOn {
		if word, ok := conditions[item]; ok {
			r.On = append(r.On, word)
		}
		if method, ok := methods[item]; ok {
			r.RequestHeaders = append(r.RequestHeaders, ir.ValueMatch{Name: ":method", Kind: ir.MatchExact, Value: method})
		}
		if code, ok := statusCode(item); ok {
			r.Statuses = append(r.Statuses, code)
		}
	}
	switch {
	case len(h.RetryOn) == 0:
		r.On, r.Unsafe = slices.Clone(repeatable), slices.Clone(untouched)
	case len(r.On) == 0:
		r.On = slices.Clone(defaultHTTP)
	}
	if len(r.Statuses) > 0 {
		r.On = append(r.On, "retriable-status-codes")
	}
	for _, m := range h.RetriableRequestHeaders {
		r.RequestHeaders = append(r.RequestHeaders, m.IR())
	}
	for _, m := range h.RetriableResponseHeaders {
		r.ResponseHeaders = append(r.ResponseHeaders, m.IR())
	}
	if len(r.ResponseHeaders) > 0 {
		r.On = append(r.On, "retriable-headers")
		if r.Unsafe != nil {
			r.Unsafe = append(r.Unsafe, "retriable-headers")
		}
	}
	h.BackOff.apply(r)
	h.RateLimitedBackOff.apply(r)
	h.selectHosts(r)
	return r
}

func (h *HTTP) selectHosts(r *ir.Retry) {
	for _, s := range h.HostSelection {
		switch s.Predicate {
		case OmitPreviousHosts:
			r.PreviousHosts = true
		case OmitHostsWithTags:
			r.OmitHosts = append(r.OmitHosts, s.Tags)
		case OmitPreviousPriorities:
			r.PreviousPriorities = uint32(s.UpdateFrequency)
		}
	}
	if len(h.HostSelection) > 0 && r.HostAttempts == nil {
		r.HostAttempts = new(int64)
		*r.HostAttempts = hostAttempts
	}
}

func (g *GRPC) retry() *ir.Retry {
	if g == nil || g.NumRetries != nil && *g.NumRetries == 0 {
		return nil
	}
	// There is no word for it in the policy, and no reason to ask the same again.
	r := &ir.Retry{
		Times: g.NumRetries, PerTryTimeout: limit(g.PerTryTimeout),
		PreviousHosts: true, PreviousPriorities: triesPerPriority, HostAttempts: new(int64),
	}
	*r.HostAttempts = hostAttempts
	for _, s := range g.RetryOn {
		r.On = append(r.On, statuses[s])
	}
	if len(r.On) == 0 {
		r.On = slices.Concat(untouched, refused)
	}
	g.BackOff.apply(r)
	g.RateLimitedBackOff.apply(r)
	return r
}

// limit is nil for a duration that is no limit.
func limit(d *policy.Duration) *time.Duration {
	if d == nil || *d <= 0 {
		return nil
	}
	return d.Get()
}

// apply keeps what Envoy asks: a base above zero, and a maximum not below it.
func (b *BackOff) apply(r *ir.Retry) {
	if b == nil {
		return
	}
	base := defaultBase
	if set := limit(b.BaseInterval); set != nil {
		base = max(*set, time.Millisecond)
	}
	if longest := limit(b.MaxInterval); longest != nil {
		if b.BaseInterval == nil {
			base = max(min(base, *longest), time.Millisecond)
		}
		r.Max = new(time.Duration)
		*r.Max = max(*longest, base)
	}
	r.Base = &base
}

func (b *RateLimitedBackOff) apply(r *ir.Retry) {
	if b == nil {
		return
	}
	for _, h := range b.ResetHeaders {
		r.Reset = append(r.Reset, ir.ResetHeader{Name: string(h.Name), Unix: h.Format == "UnixTimestamp"})
	}
	r.ResetMax = b.MaxInterval.Get()
}

// labels are those of endpoints that retries leave out by them.
func labels(c Conf) policy.Labels {
	var out policy.Labels
	if c.HTTP == nil {
		return out
	}
	for _, s := range c.HTTP.HostSelection {
		if s.Predicate != OmitHostsWithTags {
			continue
		}
		for k := range s.Tags {
			out.Endpoint = append(out.Endpoint, k)
		}
	}
	return out
}
