package delta

import (
	"strconv"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
)

// Message is one response. It is a proto.Message that encodes as a
// DeltaDiscoveryResponse, so that a gRPC stream can send it as it is, with the
// bytes of its resources copied and not encoded again; it cannot be decoded or
// inspected by reflection. It is not changed after Next returned it.
type Message struct {
	URL        string
	Nonce      string
	Identifier string
	// Revision is that of the desired state which the peer has, of this type,
	// once it applied the message; empty while more is to come.
	Revision  string
	Resources []*Resource
	Removed   []string

	batches []*batch // what the first of Resources are
	seq     uint64
	sent    time.Time
	phase   int  // index into Config.Phases
	gates   bool // later phases wait for its acknowledgement
}

// Field numbers of DeltaDiscoveryResponse; see fieldResources too.
const (
	fieldSystemVersionInfo protowire.Number = 1
	fieldTypeURL           protowire.Number = 4
	fieldNonce             protowire.Number = 5
	fieldRemoved           protowire.Number = 6
	fieldControlPlane      protowire.Number = 7
	fieldIdentifier        protowire.Number = 1 // of ControlPlane
)

// Response returns the message as the generated type.
func (m *Message) Response() *discovery.DeltaDiscoveryResponse {
	resp := &discovery.DeltaDiscoveryResponse{
		SystemVersionInfo: m.Revision,
		TypeUrl:           m.URL,
		Nonce:             m.Nonce,
		RemovedResources:  m.Removed,
	}
	if m.Identifier != "" {
		resp.ControlPlane = &core.ControlPlane{Identifier: m.Identifier}
	}
	for _, r := range m.Resources {
		resp.Resources = append(resp.Resources, &discovery.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
	}
	return resp
}

// Segments calls yield with slices that one after the other are the encoded
// message. Those of resources are shared with other messages and are not to be
// changed.
func (m *Message) Segments(yield func([]byte)) {
	for _, b := range m.batches {
		if wire := b.encoded(); wire != nil {
			yield(wire)
			continue
		}
		for _, r := range b.resources {
			yield(r.encoded())
		}
	}
	for _, r := range m.singles() {
		yield(r.encoded())
	}
	yield(m.appendRest(make([]byte, 0, m.restSize())))
}

// Pieces is how often Segments calls at most.
func (m *Message) Pieces() int {
	n := len(m.singles()) + 1
	for _, b := range m.batches {
		if b.encoded() == nil {
			n += len(b.resources)
		} else {
			n++
		}
	}
	return n
}

// Size returns the length of the encoded message.
func (m *Message) Size() int {
	n := m.restSize()
	for _, b := range m.batches {
		n += b.size
	}
	for _, r := range m.singles() {
		n += len(r.encoded())
	}
	return n
}

// singles are the resources that are in no batch.
func (m *Message) singles() []*Resource {
	n := 0
	for _, b := range m.batches {
		n += len(b.resources)
	}
	return m.Resources[n:]
}

func stringSize(s string) int {
	if s == "" {
		return 0
	}
	return 1 + protowire.SizeBytes(len(s)) // all tags are one byte
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

// removedSize differs from stringSize in that it counts an empty name too.
func removedSize(name string) int { return 1 + protowire.SizeBytes(len(name)) }

func (m *Message) restSize() int {
	n := stringSize(m.Revision) + stringSize(m.URL) + stringSize(m.Nonce)
	for _, name := range m.Removed {
		n += removedSize(name)
	}
	if m.Identifier != "" {
		n += 1 + protowire.SizeBytes(stringSize(m.Identifier))
	}
	return n
}

func (m *Message) appendRest(b []byte) []byte {
	b = appendString(b, fieldSystemVersionInfo, m.Revision)
	b = appendString(b, fieldTypeURL, m.URL)
	b = appendString(b, fieldNonce, m.Nonce)
	for _, name := range m.Removed {
		b = protowire.AppendString(protowire.AppendTag(b, fieldRemoved, protowire.BytesType), name)
	}
	if m.Identifier != "" {
		b = protowire.AppendTag(b, fieldControlPlane, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(stringSize(m.Identifier)))
		b = appendString(b, fieldIdentifier, m.Identifier)
	}
	return b
}

// ProtoReflect makes Message a proto.Message.
func (m *Message) ProtoReflect() protoreflect.Message {
	return encodable{(*discovery.DeltaDiscoveryResponse)(nil).ProtoReflect(), m}
}

// encodable is an empty DeltaDiscoveryResponse but for how it is encoded.
type encodable struct {
	protoreflect.Message
	m *Message
}

// ProtoMethods gives the proto package the fast path, the only one there is.
func (e encodable) ProtoMethods() *protoiface.Methods {
	return &protoiface.Methods{
		Flags: protoiface.SupportMarshalDeterministic,
		Size: func(protoiface.SizeInput) protoiface.SizeOutput {
			return protoiface.SizeOutput{Size: e.m.Size()}
		},
		Marshal: func(in protoiface.MarshalInput) (protoiface.MarshalOutput, error) {
			b := in.Buf
			e.m.Segments(func(s []byte) { b = append(b, s...) })
			return protoiface.MarshalOutput{Buf: b}, nil
		},
		CheckInitialized: func(protoiface.CheckInitializedInput) (protoiface.CheckInitializedOutput, error) {
			return protoiface.CheckInitializedOutput{}, nil
		},
	}
}

// IsValid keeps the proto package from taking the message for a nil one.
func (encodable) IsValid() bool { return true }

// Interface returns the message itself.
func (e encodable) Interface() protoreflect.ProtoMessage { return e.m }

func nonceOf(seq uint64) string { return strconv.FormatUint(seq, 10) }
