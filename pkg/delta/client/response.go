// Package client is the peer's side of a delta ADS stream, for tests, load
// generators and tools: it keeps what it was sent, acknowledges or refuses it,
// asks for what that refers to as Envoy does, and reconnects stating what it
// has. A thousand of them fit into one process: without KeepBodies a client
// keeps names and versions, and those with one Cache share the strings.
package client

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Response is what a client reads of a DeltaDiscoveryResponse.
type Response struct {
	URL, Nonce, Revision, Identifier string
	Resources                        []Resource
	Removed                          []string
}

// Resource is one resource of a Response.
type Resource struct {
	Name, Version string
	// TypeURL and Value are those of the resource's Any. Value is a part of the
	// response, valid until the next one.
	TypeURL string
	Value   []byte
}

// decode reads an encoded DeltaDiscoveryResponse.
func decode(b []byte, cache *Cache) (*Response, error) {
	r := &Response{}
	err := fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			r.Revision = string(v)
		case 2:
			res, err := decodeResource(v, cache)
			if err != nil {
				return err
			}
			r.Resources = append(r.Resources, res)
		case 4:
			r.URL = cache.text(v)
		case 5:
			r.Nonce = string(v)
		case 6:
			r.Removed = append(r.Removed, cache.text(v))
		case 7:
			return fields(v, func(num protowire.Number, v []byte) error {
				if num == 1 {
					r.Identifier = cache.text(v)
				}
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("DeltaDiscoveryResponse: %w", err)
	}
	return r, nil
}

func decodeResource(b []byte, cache *Cache) (r Resource, err error) {
	err = fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			r.Version = cache.text(v)
		case 2:
			return fields(v, func(num protowire.Number, v []byte) error {
				switch num {
				case 1:
					r.TypeURL = cache.text(v)
				case 2:
					r.Value = v
				}
				return nil
			})
		case 3:
			r.Name = cache.text(v)
		}
		return nil
	})
	return r, err
}

// fields calls f with every length-delimited field of a message.
func fields(b []byte, f func(protowire.Number, []byte) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return protowire.ParseError(n)
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := f(num, v); err != nil {
			return err
		}
	}
	return nil
}
