package config

import (
	"fmt"
	"net/netip"
)

// Webhooks limits whom this control plane tells of notices.
type Webhooks struct {
	// AllowedAddresses are addresses, or ranges such as 127.0.0.0/8, that Webhooks
	// may call although they are of the machine or link of the control plane.
	AllowedAddresses []string `json:"allowedAddresses"`
}

// Prefixes are the allowed addresses as ranges.
func (w Webhooks) Prefixes() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range w.AllowedAddresses {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
