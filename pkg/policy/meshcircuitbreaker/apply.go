package meshcircuitbreaker

import (
	"math"
	"time"

	"github.com/atoll-mesh/atoll/pkg/ir"
	"github.com/atoll-mesh/atoll/pkg/policy"
)

func cluster(c Conf, _ policy.Dest, cl *ir.Cluster) { c.apply(cl) }

func inbound(rules policy.InboundRules[Conf], in *policy.Inbound) {
	if c, ok := rules.CatchAll(); ok {
		for _, cl := range in.Clusters {
			c.apply(cl)
		}
	}
}

func (c Conf) apply(cl *ir.Cluster) {
	if l := c.ConnectionLimits; l != nil {
		share := cl.Limits.RetryShare
		cl.Limits = ir.Limits{
			Connections: l.MaxConnections, ConnectionPools: l.MaxConnectionPools,
			PendingRequests: l.MaxPendingRequests, Requests: l.MaxRequests, Retries: l.MaxRetries,
		}
		if l.MaxRetries == nil {
			cl.Limits.RetryShare = share
		}
	}
	o := c.OutlierDetection
	if o == nil || o.Disabled != nil && *o.Disabled || o.Detectors == nil {
		return
	}
	cl.Outliers = o.outliers()
	if o.HealthyPanicThreshold != nil {
		if v, ok := o.HealthyPanicThreshold.Float(); ok {
			cl.PanicThreshold = &v
		}
	}
}

func (o *OutlierDetection) outliers() *ir.Outliers {
	d := o.Detectors
	out := &ir.Outliers{
		Interval:           o.Interval.Get(),
		BaseEjection:       o.BaseEjectionTime.Get(),
		LongestEjection:    o.longest(),
		MaxEjectionPercent: o.MaxEjectionPercent,
		Failures:           d.TotalFailures.count(),
		GatewayFailures:    d.GatewayFailures.count(),
		LocalFailures:      d.LocalOriginFailures.count(),
	}
	// Failures to connect are counted by themselves only when split, which who
	// asks for their number wants unless told otherwise.
	out.SplitLocal = out.LocalFailures != nil
	if o.SplitExternalAndLocalErrors != nil {
		out.SplitLocal = *o.SplitExternalAndLocalErrors
	}
	if s := d.SuccessRate; s != nil {
		out.SuccessRate = &ir.SuccessRate{
			MinimumHosts: s.MinimumHosts, RequestVolume: s.RequestVolume,
			Deviations: thousandths(s.StandardDeviationFactor),
		}
	}
	if f := d.FailurePercentage; f != nil {
		out.Percentage = &ir.FailurePercentage{
			MinimumHosts: f.MinimumHosts, RequestVolume: f.RequestVolume, Threshold: f.Threshold,
		}
	}
	return out
}

// longestEjection is how long endpoints are left out that were out often, where
// the first time is not longer: with Envoy's five minutes a zone that comes back
// after a while would not be used.
const longestEjection = 30 * time.Second

func (o *OutlierDetection) longest() *time.Duration {
	d := longestEjection
	if base := o.BaseEjectionTime.Get(); base != nil {
		d = max(d, *base)
	}
	return &d
}

func (c *Consecutive) count() *uint32 {
	if c == nil {
		return nil
	}
	return c.Consecutive
}

func thousandths(v *policy.IntOrString) *uint32 {
	if v == nil {
		return nil
	}
	f, ok := v.Float()
	if !ok {
		return nil // refused by validate
	}
	n := uint32(min(math.Round(f*1000), math.MaxUint32))
	return &n
}
