package envoytest

import (
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// What Envoy refuses is refused here too, so that a green Validate means
// something.
func TestValidateRefuses(t *testing.T) {
	err := validate(t, Binary(t), &ir.Config{Routes: []*ir.RouteConfig{{
		Name: "r", VirtualHost: "r", Routes: []*ir.Route{{Match: ir.RouteMatch{Regex: "("}, Direct: &ir.Direct{Status: 500}}},
	}}})
	if err == nil || !strings.Contains(err.Error(), "missing )") {
		t.Errorf("Envoy's answer to a broken expression: %v", err)
	}
}
