package dpserver

import (
	"strconv"
	"strings"
)

// compatible tells whether an agent of one version may be used with a control
// plane of another: the same major, at most two minors apart. Builds without a
// number are.
func compatible(cp, dp string) bool {
	a, ok1 := majorMinor(cp)
	b, ok2 := majorMinor(dp)
	if !ok1 || !ok2 {
		return true
	}
	d := a[1] - b[1]
	return a[0] == b[0] && d >= -2 && d <= 2
}

func majorMinor(v string) (n [2]int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) < 3 {
		return n, false
	}
	for i := range n {
		x, err := strconv.Atoi(parts[i])
		if err != nil {
			return n, false
		}
		n[i] = x
	}
	return n, true
}
