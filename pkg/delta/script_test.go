package delta

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// Types of the configurations that the scripts use; the URLs are the names.
const (
	cds = iota
	eds
	sds
	lds
	rds
)

func envoyLike() *Config {
	return &Config{
		Types: []Type{
			cds: {URL: "cds", Required: true, Rearm: []int{eds}, Uses: []int{eds, sds}},
			eds: {URL: "eds", Distrust: true},
			sds: {URL: "sds"},
			lds: {URL: "lds", Required: true, Uses: []int{rds, cds, eds, sds}},
			rds: {URL: "rds", Uses: []int{cds, eds, sds}},
		},
		Phases: []Phase{
			{Type: cds}, {Type: eds, Light: true}, {Type: sds, Light: true},
			{Type: lds, Replace: true, Wait: true}, {Type: rds, Wait: true},
			{Type: lds, Remove: true, Wait: true}, {Type: rds, Remove: true, Wait: true},
			{Type: sds, Remove: true, Wait: true}, {Type: eds, Remove: true, Wait: true},
			{Type: cds, Remove: true, Wait: true},
		},
		Gate: 20 * time.Second,
	}
}

func independent() *Config {
	return &Config{Types: []Type{{URL: "cds"}, {URL: "eds"}, {URL: "sds"}, {URL: "lds"}, {URL: "rds"}}}
}

// player runs a script. Commands:
//
//	want TYPE name@version …    desired state, all of it
//	rev N                       its revision, from the next command on
//	sub TYPE name … [has n@v …] a request that subscribes; "-" stands for no name
//	unsub TYPE name …
//	ack N, nack N text          verdict on the response with that nonce
//	wait DURATION
//	< N TYPE +name@version -name [r=REVISION]   a response that must be sent now
//	delivered N, degraded BOOL, rejected [TYPE name@version …]
//
// After each command everything that may be sent is, and must be what follows.
type player struct {
	t      *testing.T
	stream *Stream
	tables map[int]*Table
	now    time.Time
	types  map[string]string // nonce to type
	sent   []string
}

func play(t *testing.T, cfg *Config, script string) {
	t.Helper()
	for _, few := range []int{fewest, 1} { // without batches, and all in batches
		SetFewest(t, few)
		playOnce(t, cfg, script)
	}
}

func playOnce(t *testing.T, cfg *Config, script string) {
	t.Helper()
	p := &player{t: t, stream: New(cfg), tables: map[int]*Table{}, now: time.Unix(1e9, 0), types: map[string]string{}}
	for n, line := range strings.Split(script, "\n") {
		line, _, _ = strings.Cut(line, "//")
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		at := fmt.Sprintf("line %d: %s", n, strings.TrimSpace(line))
		if words[0] == "<" {
			if len(p.sent) == 0 {
				t.Fatalf("%s\nnothing was sent", at)
			}
			if got := p.sent[0]; got != strings.Join(words, " ") {
				t.Fatalf("%s\nsent\n%s", at, got)
			}
			p.sent = p.sent[1:]
			continue
		}
		if len(p.sent) > 0 {
			t.Fatalf("before %s\nsent\n%s", at, strings.Join(p.sent, "\n"))
		}
		p.do(at, words)
		if words[0] == "rev" {
			continue
		}
		for m := p.stream.Next(p.now); m != nil; m = p.stream.Next(p.now) {
			p.types[m.Nonce] = m.URL
			p.sent = append(p.sent, describe(m))
		}
	}
	if len(p.sent) > 0 {
		t.Fatalf("at the end\nsent\n%s", strings.Join(p.sent, "\n"))
	}
}

func describe(m *Message) string {
	words := []string{"<", m.Nonce, m.URL}
	var names []string
	for _, r := range m.Resources {
		names = append(names, "+"+r.Name+"@"+r.Version)
	}
	for _, name := range m.Removed {
		names = append(names, "-"+name)
	}
	slices.Sort(names)
	words = append(words, names...)
	if m.Revision != "" {
		words = append(words, "r="+m.Revision)
	}
	return strings.Join(words, " ")
}

func resource(name, version string) *Resource {
	return NewResource(name, version, "type.test/R", []byte(strings.Repeat(version, 10)))
}

func (p *player) do(at string, words []string) {
	p.t.Helper()
	fatal := func(format string, args ...any) {
		p.t.Helper()
		p.t.Fatalf("%s\n%s", at, fmt.Sprintf(format, args...))
	}
	handle := func(req *discovery.DeltaDiscoveryRequest) {
		if err := p.stream.Handle(req, p.now); err != nil {
			fatal("%v", err)
		}
	}
	switch words[0] {
	case "want":
		i := slices.IndexFunc(p.stream.types, func(s state) bool { return s.url == words[1] })
		all := map[string]*Resource{}
		for _, word := range words[2:] {
			word, refers, known := strings.Cut(word, ">") // l@1>a,b refers to a and b, l@1> to nothing
			name, version, _ := strings.Cut(word, "@")
			all[name] = resource(name, version)
			if known {
				all[name].Refers = strings.FieldsFunc(refers, func(r rune) bool { return r == ',' })
			}
		}
		p.tables[i] = p.tables[i].Becoming(all)
		if p.tables[i] == nil {
			p.tables[i] = NewTable()
		}
		p.stream.Want(i, p.tables[i])
	case "rev":
		rev, _ := strconv.ParseUint(words[1], 10, 64)
		p.stream.At(rev)
	case "sub":
		req := &discovery.DeltaDiscoveryRequest{TypeUrl: words[1]}
		for _, word := range words[2:] {
			switch name, version, has := strings.Cut(word, "@"); {
			case word == "has":
				req.InitialResourceVersions = map[string]string{}
			case has:
				req.InitialResourceVersions[name] = version
			case word != "-":
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, word)
			}
		}
		handle(req)
	case "unsub":
		handle(&discovery.DeltaDiscoveryRequest{TypeUrl: words[1], ResourceNamesUnsubscribe: words[2:]})
	case "ack":
		for _, nonce := range words[1:] {
			handle(&discovery.DeltaDiscoveryRequest{TypeUrl: p.types[nonce], ResponseNonce: nonce})
		}
	case "nack":
		handle(&discovery.DeltaDiscoveryRequest{TypeUrl: p.types[words[1]], ResponseNonce: words[1],
			ErrorDetail: &rpc.Status{Message: strings.Join(words[2:], " ")}})
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			fatal("%v", err)
		}
		p.now = p.now.Add(d)
	case "delivered":
		if got := fmt.Sprint(p.stream.Delivered()); got != words[1] {
			fatal("delivered %s", got)
		}
	case "degraded":
		if got := fmt.Sprint(p.stream.Degraded()); got != words[1] {
			fatal("degraded %s", got)
		}
	case "rejected":
		var got []string
		for _, r := range p.stream.Rejections() {
			got = append(got, r.Type, r.Name+"@"+r.Version)
		}
		if !slices.Equal(got, words[1:]) {
			fatal("rejected %s", got)
		}
	default:
		fatal("no such command")
	}
}

func TestMessageEncodesAsResponse(t *testing.T) {
	plain := &Resource{Name: "plain", Version: "v", Body: &anypb.Any{TypeUrl: "u", Value: []byte("body")}}
	for _, m := range []*Message{
		{URL: "t", Nonce: "1"},
		{URL: "t", Nonce: "12", Identifier: "me", Revision: "77", Resources: []*Resource{resource("a", "1"), plain}, Removed: []string{"x", ""}},
		{URL: "t", Nonce: "3", Resources: []*Resource{{Name: "bare"}, {Name: "json", Version: "2", Body: &anypb.Any{Value: []byte("{}")}}}},
	} {
		checkEncoding(t, m)
	}
	if r := resource("a", "1"); string(r.Body.Value) != "1111111111" {
		t.Errorf("body is %q", r.Body.Value)
	}
}
