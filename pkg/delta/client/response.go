// Package client is the peer's side of a delta ADS stream, for tests, load
// generators and tools: it keeps what it was sent, acknowledges or refuses it,
// asks for what that refers to as Envoy does, and reconnects stating what it
// has. Thousands of them fit into one process: without KeepBodies a client keeps
// versions only, and those with one Cache share them.
package client

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
)

// Response is what a client reads of a DeltaDiscoveryResponse. It is valid until
// the client reads the next one.
type Response struct {
	URL, Nonce, Revision, Identifier string
	Resources                        []Resource
	Removed                          []Resource // their names and places
}

// Resource is one resource of a Response.
type Resource struct {
	Name, Version string
	// Place is a small number by which clients with one Cache tell names of a
	// type apart.
	Place int
	// TypeURL and Value are those of the resource's Any.
	TypeURL string
	Value   []byte

	name    *name
	version *version
}

// responses are kept for the next reader: with a thousand clients they would be
// most of what is allocated.
var responses = sync.Pool{New: func() any { return new(Response) }}

func (r *Response) free() {
	clear(r.Resources)
	clear(r.Removed)
	*r = Response{Resources: r.Resources[:0], Removed: r.Removed[:0]}
	responses.Put(r)
}

// decode reads an encoded DeltaDiscoveryResponse. The caller frees it.
func decode(b []byte, cache *Cache) (*Response, error) {
	r := responses.Get().(*Response)
	var url []byte
	// What names and versions mean follows from the type, which may come last.
	err := fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			r.Revision = string(v)
		case 4:
			url = v
		case 5:
			r.Nonce = string(v)
		case 7:
			return fields(v, func(num protowire.Number, v []byte) error {
				if num == 1 {
					r.Identifier = string(v)
				}
				return nil
			})
		}
		return nil
	})
	if err == nil {
		of := cache.ofText(url)
		r.URL = of.url
		err = fields(b, func(num protowire.Number, v []byte) error {
			switch num {
			case 2:
				res, err := decodeResource(v, of)
				if err != nil {
					return err
				}
				r.Resources = append(r.Resources, res)
			case 6:
				n := of.named(v)
				r.Removed = append(r.Removed, Resource{Name: n.text, Place: n.place, name: n})
			}
			return nil
		})
	}
	if err != nil {
		r.free()
		return nil, fmt.Errorf("DeltaDiscoveryResponse: %w", err)
	}
	return r, nil
}

func decodeResource(b []byte, of *names) (r Resource, err error) {
	var name, version, typeURL []byte
	err = fields(b, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			version = v
		case 2:
			return fields(v, func(num protowire.Number, v []byte) error {
				switch num {
				case 1:
					typeURL = v
				case 2:
					r.Value = v
				}
				return nil
			})
		case 3:
			name = v
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.name = of.named(name)
	r.version = r.name.versioned(version)
	r.Name, r.Place, r.Version, r.TypeURL = r.name.text, r.name.place, r.version.text, of.url
	if string(typeURL) != of.url {
		r.TypeURL = string(typeURL)
	}
	return r, nil
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
