package policy

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/zeebo/xxh3"
)

// Digest identifies inputs by content: equal digests, equal results.
type Digest [16]byte

// hash collects what a Digest is of. Parts are written with their lengths, so
// that no two lists of parts run into each other.
type hash struct{ buf []byte }

func (h *hash) text(s string) *hash {
	h.buf = binary.AppendUvarint(h.buf, uint64(len(s)))
	h.buf = append(h.buf, s...)
	return h
}

func (h *hash) bytes(b []byte) *hash {
	h.buf = binary.AppendUvarint(h.buf, uint64(len(b)))
	h.buf = append(h.buf, b...)
	return h
}

func (h *hash) number(n int) *hash {
	h.buf = binary.AppendUvarint(h.buf, uint64(n))
	return h
}

func (h *hash) digest(d Digest) *hash {
	h.buf = append(h.buf, d[:]...)
	return h
}

func (h *hash) sum() Digest { return xxh3.Hash128(h.buf).Bytes() }

// identity is who a policy is: what it is called and labelled, which decides
// where it applies and how strong it is.
func identity(o *resource.Object) Digest {
	h := new(hash).text(string(o.Type)).text(o.Mesh).text(o.Name)
	for _, k := range slices.Sorted(maps.Keys(o.Labels)) {
		h.text(k).text(o.Labels[k])
	}
	return h.sum()
}
