package meshfaultinjection

import "strconv"

// kbps is the limit as Envoy takes it, 0 when it cannot be expressed.
func (b *Bandwidth) kbps() uint64 {
	m := bandwidths.FindStringSubmatch(b.Limit)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	if err != nil || n > 1_000_000 {
		return 0
	}
	switch m[2] {
	case "Gbps":
		return n * 1_000_000
	case "Mbps":
		return n * 1000
	}
	return n
}
