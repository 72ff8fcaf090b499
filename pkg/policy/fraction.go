package policy

import (
	"math"

	"github.com/atoll-mesh/atoll/pkg/ir"
)

// Fraction is a percentage in the coarsest unit that gives it exactly, or in
// millionths, never rounded to nothing. What is no number is nothing.
func (v IntOrString) Fraction() ir.Fraction {
	f, ok := v.Float()
	if !ok || f <= 0 {
		return ir.Fraction{Denominator: 100}
	}
	f = min(f, 100)
	for _, d := range []uint32{100, 10_000} {
		n := f * float64(d) / 100
		if whole := math.Round(n); math.Abs(n-whole) < 1e-9 {
			return ir.Fraction{Numerator: uint32(whole), Denominator: d}
		}
	}
	return ir.Fraction{Numerator: uint32(max(math.Round(f*10_000), 1)), Denominator: 1_000_000}
}
