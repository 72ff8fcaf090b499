package resource

import (
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// protoSchema describes the JSON of a protobuf message, or is nil for other
// types. Nothing in proto3 is required; enums and wrong types are found here so
// that errors name a field, which protojson's do not.
func protoSchema(t reflect.Type) *Schema {
	if t.Kind() != reflect.Pointer {
		t = reflect.PointerTo(t)
	}
	if !t.Implements(reflect.TypeFor[proto.Message]()) {
		return nil
	}
	m := reflect.New(t.Elem()).Interface().(proto.Message)
	return messageSchema(m.ProtoReflect().Descriptor())
}

func messageSchema(d protoreflect.MessageDescriptor) *Schema {
	switch d.FullName() {
	case "google.protobuf.Duration":
		return &Schema{Type: "string", Pattern: `^-?[0-9]+(\.[0-9]+)?s$`}
	case "google.protobuf.Timestamp":
		return &Schema{Type: "string", Format: "date-time"}
	case "google.protobuf.BoolValue":
		return &Schema{Type: "boolean"}
	case "google.protobuf.UInt32Value":
		return &Schema{Type: "integer", Format: "int32", Minimum: new(float64), Unsigned: true, Quoted: true}
	case "google.protobuf.BytesValue":
		return &Schema{Type: "string", Format: "byte"}
	case "google.protobuf.Struct", "google.protobuf.Any":
		return &Schema{Open: true}
	}
	s := &Schema{Type: "object", Properties: map[string]*Schema{}}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		p := fieldSchema(f)
		s.Properties[f.JSONName()] = p
		if name := string(f.Name()); name != f.JSONName() {
			s.Properties[name] = p // protojson accepts both spellings
		}
	}
	return s
}

func fieldSchema(f protoreflect.FieldDescriptor) *Schema {
	if f.IsMap() {
		return &Schema{Type: "object", AdditionalProperties: singleSchema(f.MapValue())}
	}
	if f.IsList() {
		return &Schema{Type: "array", Items: singleSchema(f)}
	}
	return singleSchema(f)
}

func singleSchema(f protoreflect.FieldDescriptor) *Schema {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return messageSchema(f.Message())
	case protoreflect.EnumKind:
		s := &Schema{Type: "string"}
		for i := range f.Enum().Values().Len() {
			s.Enum = append(s.Enum, string(f.Enum().Values().Get(i).Name()))
		}
		return s
	case protoreflect.BoolKind:
		return &Schema{Type: "boolean"}
	case protoreflect.StringKind:
		return &Schema{Type: "string"}
	case protoreflect.BytesKind:
		return &Schema{Type: "string", Format: "byte"}
	case protoreflect.Uint32Kind:
		return &Schema{Type: "integer", Format: "int32", Minimum: new(float64), Unsigned: true, Quoted: true}
	case protoreflect.Int32Kind:
		return &Schema{Type: "integer", Format: "int32", Quoted: true}
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return &Schema{Type: "number", Quoted: true}
	}
	return &Schema{Open: true} // 64-bit integers are strings or numbers in JSON
}
