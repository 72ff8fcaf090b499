package envoy

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

func valueOf(m proto.Message) protoreflect.Value {
	return protoreflect.ValueOfMessage(m.ProtoReflect())
}

// mergeInto puts what is set in src over dst: scalars are replaced, messages
// merged, lists appended to, entries of maps merged by key. Packed messages of
// one type are merged as if they were not packed. Durations and other values
// that protobuf writes as messages are replaced as a whole.
func mergeInto(dst, src proto.Message) error {
	if a, b := dst.ProtoReflect().Descriptor().FullName(), src.ProtoReflect().Descriptor().FullName(); a != b {
		return fmt.Errorf("a %s cannot be merged into a %s", b, a)
	}
	return mergeMessages(dst.ProtoReflect(), src.ProtoReflect())
}

func mergeMessages(dst, src protoreflect.Message) (err error) {
	src.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsList():
			list, from := dst.Mutable(f).List(), v.List()
			for i := range from.Len() {
				list.Append(from.Get(i))
			}
		case f.IsMap():
			err = mergeMaps(dst.Mutable(f).Map(), v.Map(), f.MapValue())
		case f.Message() != nil && dst.Has(f) && !isValue(f.Message()):
			err = mergeOne(dst.Mutable(f).Message(), v.Message())
		default:
			dst.Set(f, v)
		}
		return err == nil
	})
	return err
}

func mergeMaps(dst, src protoreflect.Map, value protoreflect.FieldDescriptor) (err error) {
	src.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		if value.Message() != nil && dst.Has(k) && !isValue(value.Message()) {
			err = mergeOne(dst.Mutable(k).Message(), v.Message())
		} else {
			dst.Set(k, v)
		}
		return err == nil
	})
	return err
}

func mergeOne(dst, src protoreflect.Message) error {
	d, ok := dst.Interface().(*anypb.Any)
	if !ok {
		return mergeMessages(dst, src)
	}
	s := src.Interface().(*anypb.Any)
	if d.GetTypeUrl() != s.GetTypeUrl() {
		d.TypeUrl, d.Value = s.TypeUrl, s.Value
		return nil
	}
	into, err := d.UnmarshalNew()
	if err != nil {
		return err
	}
	from, err := s.UnmarshalNew()
	if err != nil {
		return err
	}
	if err := mergeInto(into, from); err != nil {
		return err
	}
	d.Value = marshal(into)
	return nil
}

// isValue reports whether a message is a single value to people.
func isValue(m protoreflect.MessageDescriptor) bool {
	switch m.FullName() {
	case "google.protobuf.Any", "google.protobuf.Struct":
		return false
	}
	return strings.HasPrefix(string(m.FullName()), "google.protobuf.")
}
