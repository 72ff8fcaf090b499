package policy_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/atoll-mesh/atoll/pkg/policy"
)

var mergeSample = policy.Merger[sampleConf]()

// oracle merges JSON documents as RFC 7396 says, with lists named append…
// appended. It shares nothing with the code it checks.
func oracle(docs ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, d := range docs {
		out = patch(out, d)
	}
	return out
}

func patch(target any, p map[string]any) map[string]any {
	out, ok := target.(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	for name, v := range p {
		switch v := v.(type) {
		case nil: // a required list that is nil; nothing else writes null
		case map[string]any:
			out[name] = patch(out[name], v)
		case []any:
			if old, ok := out[name].([]any); ok && strings.HasPrefix(name, "append") {
				v = append(append([]any{}, old...), v...)
			}
			out[name] = v
		default:
			out[name] = v
		}
	}
	return out
}

func document(t testing.TB, c sampleConf) map[string]any {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// checkMerge holds the laws: equal to the oracle, associative, the empty conf
// changes nothing, arguments stay as they were.
func checkMerge(t testing.TB, a, b, c sampleConf) {
	t.Helper()
	before, _ := json.Marshal([]sampleConf{a, b, c})
	all := mergeSample(a, b, c)
	got, want := document(t, all), oracle(document(t, a), document(t, b), document(t, c))
	if !reflect.DeepEqual(got, want) {
		t.Errorf("merge of\n%s\ngot  %v\nwant %v", before, got, want)
	}
	for _, same := range []sampleConf{
		mergeSample(mergeSample(a, b), c), mergeSample(a, mergeSample(b, c)),
		mergeSample(sampleConf{}, a, sampleConf{}, b, c, sampleConf{}),
	} {
		if !reflect.DeepEqual(document(t, same), got) {
			t.Errorf("not associative for\n%s", before)
		}
	}
	if after, _ := json.Marshal([]sampleConf{a, b, c}); !bytes.Equal(before, after) {
		t.Errorf("merging changed its arguments:\n%s\n%s", before, after)
	}
}

func TestMergeLaws(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		checkMerge(t, randomConf(r), randomConf(r), randomConf(r))
		if t.Failed() {
			return
		}
	}
}

// randomConf sets about half of the fields.
func randomConf(r *rand.Rand) sampleConf {
	var c sampleConf
	fill(r, reflect.ValueOf(&c).Elem(), true)
	return c
}

func fill(r *rand.Rand, v reflect.Value, maybe bool) {
	if maybe && v.Kind() != reflect.Struct && r.IntN(2) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i), true)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(r, v.Elem(), false)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), r.IntN(3), 4))
		for i := range v.Len() {
			fill(r, v.Index(i), false)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			elem := reflect.New(v.Type().Elem()).Elem()
			fill(r, elem, false)
			v.SetMapIndex(reflect.ValueOf(string(rune('a'+r.IntN(3)))), elem)
		}
	case reflect.String:
		v.SetString(string(rune('a' + r.IntN(3))))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	default:
		v.SetInt(r.Int64N(3))
	}
}

func FuzzMerge(f *testing.F) {
	f.Add(`{"text":"a","list":[]}`, `{"inner":{"required":1,"appendDeep":[1]},"appendList":["x"]}`, `{"inner":{"required":2,"appendDeep":[2]}}`)
	f.Add(`{"map":{"a":"b"}}`, `{"byName":{"x":{"required":1}}}`, `{"byName":{"x":{"required":0,"flag":false}},"map":{}}`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		var confs [3]sampleConf
		for i, s := range []string{a, b, c} {
			if json.Unmarshal([]byte(s), &confs[i]) != nil {
				return
			}
		}
		checkMerge(t, confs[0], confs[1], confs[2])
	})
}

func TestMergeExamples(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name  string
		confs []sampleConf
		want  string
	}{
		{"nothing", nil, `{}`},
		{"unset inherits", []sampleConf{{Text: ptr("a"), Plain: "p"}, {Number: ptr(int32(1))}}, `{"text":"a","number":1,"plain":"p"}`},
		{"set to zero overrides", []sampleConf{{Timeout: policy.DurationOf(time.Second)}, {Timeout: policy.DurationOf(0)}}, `{"timeout":"0s"}`},
		{"lists are replaced", []sampleConf{{List: []string{"a", "b"}}, {List: []string{"c"}}}, `{"list":["c"]}`},
		{"an empty list overrides", []sampleConf{{List: []string{"a"}}, {List: []string{}}}, `{"list":[]}`},
		{"an absent list does not", []sampleConf{{List: []string{"a"}}, {}}, `{"list":["a"]}`},
		{"append", []sampleConf{{AppendList: []string{"a"}}, {AppendList: []string{"b", "a"}}}, `{"appendList":["a","b","a"]}`},
		{
			"objects are merged, required fields always win",
			[]sampleConf{{Inner: &sampleInner{Required: 5, Flag: &yes, AppendDeep: []int32{1}, Value: sampleVal{A: ptr("a"), B: "b"}}}, {Inner: &sampleInner{AppendDeep: []int32{2}}}},
			`{"inner":{"required":0,"flag":true,"appendDeep":[1,2],"value":{"a":"a","b":""}}}`,
		},
		{"false is a value", []sampleConf{{Inner: &sampleInner{Flag: &yes}}, {Inner: &sampleInner{Flag: &no}}}, `{"inner":{"required":0,"flag":false,"value":{"b":""}}}`},
		{"maps are merged by key", []sampleConf{{Map: labels{"a": "1", "b": "1"}}, {Map: labels{"b": "2"}}}, `{"map":{"a":"1","b":"2"}}`},
	} {
		got, err := json.Marshal(mergeSample(c.confs...))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: got %s, want %s (%v)", c.name, got, c.want, err)
		}
	}
}

func TestUnmergeableTypesAreRefused(t *testing.T) {
	type loop struct{ Next *loop }
	for name, make := range map[string]func(){
		"interface": func() { policy.Merger[struct{ V any }]() },
		"itself":    func() { policy.Merger[loop]() },
		"channel":   func() { policy.Merger[struct{ C chan int }]() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: accepted", name)
				}
			}()
			make()
		}()
	}
}
