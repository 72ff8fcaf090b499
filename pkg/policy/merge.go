package policy

import (
	"encoding/json"
	"reflect"
	"strings"
)

// Confs are merged as JSON merge patches (RFC 7396) would merge their JSON,
// without making any: a field that is set wins over a lower one, objects and
// maps are merged member by member, lists are replaced as a whole. A list whose
// name starts with "append" is appended to instead. "Set" is what the json tag
// writes: a non-nil pointer, map or list; any value of a field without
// omitempty or omitzero. The way of each field is found once per type.

// plan says how values of one Go type are merged.
type plan struct {
	how    how
	elem   *plan       // of objects behind a pointer, and of values of a map
	fields []fieldPlan // of structs
}

type fieldPlan struct {
	index int
	plan  *plan
	// unset reports that a value is not written to JSON and so changes nothing.
	unset func(reflect.Value) bool
}

type how uint8

const (
	replace how = iota
	replaceList
	appendList
	mergeStruct
	mergePointer
	mergeMap
)

var marshaler = reflect.TypeFor[json.Marshaler]()

// planOf panics on a type that has no sensible merge, such as an interface or a
// type that contains itself.
func planOf(t reflect.Type) *plan { return planWithin(t, nil) }

func planWithin(t reflect.Type, outer []reflect.Type) *plan {
	for _, o := range outer {
		if o == t {
			panic("policy: cannot merge " + t.String() + ", which contains itself")
		}
	}
	outer = append(outer, t)
	if t.Implements(marshaler) || reflect.PointerTo(t).Implements(marshaler) {
		return &plan{how: replace}
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float64,
		reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return &plan{how: replace}
	case reflect.Slice:
		return &plan{how: replaceList}
	case reflect.Map:
		return &plan{how: mergeMap, elem: planWithin(t.Elem(), outer)}
	case reflect.Pointer:
		elem := planWithin(t.Elem(), outer)
		if elem.how != mergeStruct {
			return &plan{how: replace} // a pointer to a scalar: set or not
		}
		return &plan{how: mergePointer, elem: elem}
	case reflect.Struct:
		return structPlan(t, outer)
	}
	panic("policy: cannot merge " + t.String())
}

func structPlan(t reflect.Type, outer []reflect.Type) *plan {
	p := &plan{how: mergeStruct}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		fp := fieldPlan{index: i, plan: planWithin(f.Type, outer)}
		fp.unset = unsetBy(f.Type.Kind(), opts)
		if fp.plan.how == replaceList && strings.HasPrefix(name, "append") {
			fp.plan = &plan{how: appendList}
		}
		p.fields = append(p.fields, fp)
	}
	return p
}

func unsetBy(kind reflect.Kind, opts string) func(reflect.Value) bool {
	list := kind == reflect.Slice || kind == reflect.Map
	switch {
	case list && strings.Contains(opts, "omitempty"):
		return func(v reflect.Value) bool { return v.Len() == 0 }
	case list || kind == reflect.Pointer:
		return reflect.Value.IsNil
	case strings.Contains(opts, "omitempty") && kind != reflect.Struct, strings.Contains(opts, "omitzero"):
		return reflect.Value.IsZero
	}
	return func(reflect.Value) bool { return false }
}

// merge puts src over dst. dst must be addressable and own what it points to,
// as it does when it starts as zero; src is only read and may be shared.
func (p *plan) merge(dst, src reflect.Value) {
	switch p.how {
	case replace, replaceList:
		dst.Set(src)
	case appendList:
		// Always a new array: dst may hold one that belongs to a spec.
		sum := reflect.MakeSlice(dst.Type(), 0, dst.Len()+src.Len())
		dst.Set(reflect.AppendSlice(reflect.AppendSlice(sum, dst), src))
	case mergeStruct:
		for _, f := range p.fields {
			from := src.Field(f.index)
			if f.unset(from) {
				continue
			}
			f.plan.merge(dst.Field(f.index), from)
		}
	case mergePointer:
		if dst.IsNil() {
			dst.Set(reflect.New(dst.Type().Elem()))
		}
		p.elem.merge(dst.Elem(), src.Elem())
	case mergeMap:
		p.mergeMap(dst, src)
	}
}

func (p *plan) mergeMap(dst, src reflect.Value) {
	if dst.IsNil() {
		dst.Set(reflect.MakeMapWithSize(dst.Type(), src.Len()))
	}
	for _, key := range src.MapKeys() {
		value := reflect.New(dst.Type().Elem()).Elem() // map values are not addressable
		if old := dst.MapIndex(key); old.IsValid() {
			p.elem.merge(value, old)
		}
		p.elem.merge(value, src.MapIndex(key))
		dst.SetMapIndex(key, value)
	}
}

// Merger returns a function that merges configurations given in ascending
// precedence by the rules of this file. It panics on a type that cannot be
// merged. A policy that overrides Merge uses it for the parts inside.
func Merger[C any]() func(confs ...C) C {
	plan := planOf(reflect.TypeFor[C]())
	return func(confs ...C) C {
		var out C
		dst := reflect.ValueOf(&out).Elem()
		for i := range confs {
			plan.merge(dst, reflect.ValueOf(&confs[i]).Elem())
		}
		return out
	}
}
