package delta

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What Envoy asks for at first, up to the point where it has everything.
const started = `
	rev 1
	want cds a@1
	want eds a@1
	want sds s@1
	want lds l@1
	want rds r@1
	sub cds *
	< 1 cds +a@1 r=1
	sub eds a
	< 2 eds +a@1 r=1
	sub lds *            // waits for what it may refer to
	delivered 0
	ack 1 2
	< 3 lds +l@1 r=1
	sub rds r
	ack 3
	< 4 rds +r@1 r=1
	sub sds s
	< 5 sds +s@1 r=1
	ack 4 5
	delivered 1
`

func TestPhases(t *testing.T) {
	for name, script := range map[string]string{
		"make before break": `
			rev 2
			want cds b@1
			< 6 cds +b@1
			want eds b@1
			want rds r@2
			want lds l@1 m@1
			ack 6                // what starts acknowledges clusters that have no endpoints
			delivered 1
			sub eds b
			< 7 eds +b@1         // a goes later
			ack 7
			< 8 lds +m@1 r=2
			ack 8
			< 9 rds +r@2 r=2
			delivered 1
			ack 9
			< 10 eds -a r=2
			ack 10
			< 11 cds -a r=2
			delivered 1
			ack 11
			delivered 2`,
		"a cluster is ready when its endpoints are acknowledged": `
			want cds a@1 b@1
			< 6 cds +b@1 r=1
			want eds a@1 b@1
			want rds r@2>b q@1>a s@1>
			sub rds q s
			< 7 rds +q@1 +s@1
			ack 6 7
			sub eds b
			< 8 eds +b@1 r=1
			want eds a@1 b@2
			< 9 eds +b@2 r=1
			ack 8
			< 10 rds +r@2 r=1`,
		"endpoints that nobody asks for hold back for as long as a gate does": `
			rev 2
			want cds a@1 b@1
			< 6 cds +b@1 r=2
			want eds a@1 b@1
			want rds r@2>b
			ack 6
			wait 19s
			wait 1s
			< 7 rds +r@2 r=2
			want rds r@3>b
			< 8 rds +r@3 r=2`,
		"a cluster without endpoints, or one that is not wanted any more, holds nothing back": `
			want cds a@1 b@1 c@1
			< 6 cds +b@1 +c@1 r=1
			want eds a@1 c@1
			want rds r@2>b,c
			ack 6
			want cds a@1 b@1
			< 7 rds +r@2 r=1
			ack 7
			< 8 cds -c r=1`,
		"what refers to nothing that is unanswered does not wait": `
			rev 2
			want cds a@1 slow@1
			< 6 cds +slow@1 r=2
			want eds a@1 slow@1
			want rds r@2>a q@2>slow s@1
			< 7 rds +r@2 r=2
			sub rds q s          // q waits for slow; of s it is not known
			ack 7
			want lds l@2> m@1>slow
			< 8 lds +l@2
			ack 8
			delivered 1
			ack 6
			sub eds slow
			< 9 eds +slow@1 r=2
			ack 9
			< 10 lds +m@1 r=2
			< 11 rds +q@2
			ack 10
			< 12 rds +s@1 r=2
			ack 11 12
			delivered 2`,
		"a listener that may take a place waits until it can be given up": `
			want cds a@1 b@1
			< 6 cds +b@1 r=1
			want lds m@1>        // and not l, which has its address
			ack 6
			< 7 lds +m@1 -l r=1`,
		"a listener that takes no place does not wait": `
			want cds a@1 b@1
			< 6 cds +b@1 r=1
			want lds l@2> m@1>
			< 7 lds +l@2 +m@1 r=1`,
		"a listener takes the place of another in one message": `
			rev 2
			want lds m@1
			< 6 lds +m@1 -l r=2
			delivered 1
			ack 6
			delivered 2`,
		"of a replacement that was refused the removal is tried first": `
			rev 2
			want lds m@1
			< 6 lds +m@1 -l r=2
			nack 6 no
			< 7 lds -l
			< 8 lds +m@1 r=2
			ack 7
			ack 8
			rejected
			delivered 2`,
		"what was refused is tried again when there is room": `
			want lds l@1 m@1
			< 6 lds +m@1 r=1
			nack 6 address in use
			want lds m@1
			< 7 lds -l r=1
			rejected lds m@1
			ack 7
			< 8 lds +m@1 r=1
			nack 8 still no good
			rejected lds m@1
			want lds m@2
			< 9 lds +m@2 r=1
			ack 9
			rejected`,
		"endpoints of a changed cluster follow at once": `
			want cds a@2
			< 6 cds +a@2 r=1
			< 7 eds +a@1 r=1
			want rds r@2         // waits for both
			ack 7
			ack 6
			< 8 rds +r@2 r=1`,
		"changed endpoints and secrets pass every gate and hold nothing back": `
			want cds a@2
			< 6 cds +a@2 r=1
			< 7 eds +a@1 r=1
			want rds r@2
			want eds a@2
			< 8 eds +a@2 r=1
			want sds s@2
			< 9 sds +s@2 r=1
			ack 6 7
			< 10 rds +r@2 r=1
			want eds a@3
			< 11 eds +a@3 r=1
			want lds l@2         // its phase is before that of routes
			< 12 lds +l@2 r=1`,
		"a route asked for later is answered": `
			want lds l@2
			< 6 lds +l@2 r=1
			sub rds r2 gone
			< 7 rds -gone -r2 r=1
			want rds r@1 r2@1
			ack 6
			< 8 rds +r2@1 r=1`,
		"the gate expires for what is added, not for what is removed": `
			rev 2
			want cds a@1 b@1
			< 6 cds +b@1 r=2
			want lds m@1
			wait 19s
			degraded false
			wait 1s
			< 7 lds +m@1
			degraded true
			ack 7
			wait 100s
			delivered 1
			ack 6
			< 8 lds -l r=2
			degraded false
			ack 8
			delivered 2`,
		"a gate that expired is open for later changes": `
			want cds a@1 b@1
			< 6 cds +b@1 r=1
			wait 30s
			want rds r@2
			< 7 rds +r@2 r=1
			want rds r@3         // waits for the route before? no, only for earlier phases
			< 8 rds +r@3 r=1`,
		"while a listener is refused nothing that it may use is removed": `
			want lds l@2
			< 6 lds +l@2 r=1
			nack 6 no
			want cds b@1
			< 7 cds +b@1
			want lds l@2 m@1
			ack 7
			< 8 lds +m@1 r=1
			ack 8                // a stays, for the old l
			rejected lds l@2
			want lds l@3 m@1
			< 9 lds +l@3 r=1
			ack 9
			< 10 cds -a r=1`,
		"a refused listener can be removed": `
			rev 2
			want lds l@2
			< 6 lds +l@2 r=2
			nack 6 no
			delivered 2
			rev 3
			want lds
			< 7 lds -l r=3
			want cds
			want eds
			ack 7
			< 8 eds -a r=3
			ack 8
			< 9 cds -a r=3
			ack 9
			delivered 3`,
		"a refused cluster holds back no route": `
			want cds a@1 b@1
			< 6 cds +b@1 r=1
			nack 6 no
			want rds r@2
			< 7 rds +r@2 r=1`,
	} {
		t.Run(name, func(t *testing.T) { play(t, envoyLike(), started+script) })
	}
}

// An Envoy whose clusters are warming while it loses its stream asks for clusters
// last, and for routes before.
func TestPhasesAfterReconnect(t *testing.T) {
	for name, script := range map[string]string{
		"what refers to clusters waits until they were asked for": `
			want cds a@1 b@1
			want eds a@1 b@1
			want lds l@1>
			want rds r@2>b q@1>
			sub eds a has a@1
			< 1 eds +a@1 r=1
			sub rds r q has r@1 q@0
			< 2 rds +q@1
			ack 1 2
			sub cds * has a@1
			< 3 cds +b@1 r=1
			sub eds b
			< 4 eds +b@1 r=1
			ack 3
			ack 4
			< 5 rds +r@2 r=1`,
		"who never asks for clusters waits for as long as a gate": `
			want cds b@1
			want rds r@2>b
			sub rds r has r@1
			wait 19s
			wait 1s
			< 1 rds +r@2 r=1`,
		"who starts does not wait": `
			want cds b@1
			want rds r@2>b
			sub rds r
			< 1 rds +r@2 r=1`,
	} {
		t.Run(name, func(t *testing.T) { play(t, envoyLike(), "rev 1\n"+script) })
	}
}

func TestDeadlineIsTheGate(t *testing.T) {
	start := time.Unix(1e9, 0)
	w := &walker{t: t, s: New(envoyLike()), now: start}
	w.s.Want(cds, NewTable(resource("a", "1")))
	w.s.Want(lds, NewTable(resource("l", "1")))
	w.request("cds", "*")
	w.request("lds", "*")
	w.next()
	if m := w.s.Next(w.now); m != nil {
		t.Fatalf("not held back: %s", describe(m))
	}
	at := w.s.Deadline(w.now)
	if at != start.Add(20*time.Second) {
		t.Fatalf("deadline is %v", at)
	}
	w.now = at
	if m := w.next(); m.URL != "lds" {
		t.Fatalf("sent %s", describe(m))
	}
	if at := w.s.Deadline(w.now); at != start.Add(40*time.Second) { // of the listener
		t.Fatalf("then it is %v", at)
	}
}

func TestChunks(t *testing.T) {
	cfg := envoyLike()
	cfg.MaxBytes = 4000
	const n = 100
	clusters, listeners := map[string]*Resource{}, map[string]*Resource{}
	for i := range n {
		name := fmt.Sprintf("name-%03d", i)
		clusters[name] = NewResource(name, "1", "type.test/R", []byte(strings.Repeat("x", 200)))
		listeners[name] = clusters[name]
	}
	clusters["name-050"] = NewResource("name-050", "1", "type.test/R", []byte(strings.Repeat("x", 10_000)))
	s := New(cfg)
	s.At(1)
	s.Want(cds, (*Table)(nil).Becoming(clusters))
	s.Want(lds, (*Table)(nil).Becoming(listeners))
	w := &walker{t: t, s: s}
	w.request("cds", "*")
	w.request("lds", "*")
	var sent []*Message
	got := map[string]bool{}
	for m := s.Next(w.now); m != nil; m = s.Next(w.now) {
		if m.URL != "cds" {
			t.Fatalf("%s before the clusters were acknowledged", describe(m))
		}
		if m.Size() > cfg.MaxBytes && len(m.Resources) > 1 {
			t.Errorf("%d bytes", m.Size())
		}
		for _, r := range m.Resources {
			if got[r.Name] {
				t.Errorf("%s was sent twice", r.Name)
			}
			got[r.Name] = true
		}
		sent = append(sent, m)
	}
	if len(got) != n || len(sent) < 6 || len(sent) > 12 {
		t.Fatalf("%d clusters in %d messages", len(got), len(sent))
	}
	for i, m := range sent {
		if (m.Revision != "") != (i == len(sent)-1) {
			t.Errorf("message %d of %d states revision %q", i, len(sent), m.Revision)
		}
		w.ack(m)
	}
	if m := w.next(); m.URL != "lds" {
		t.Errorf("then %s", describe(m))
	}
}

func TestFirstResponseWhole(t *testing.T) {
	cfg := independent()
	cfg.MaxBytes = 1000
	cfg.Types[cds].WholeFirst = true
	all := map[string]*Resource{}
	for i := range 100 {
		name := fmt.Sprint("n", i)
		all[name] = NewResource(name, "1", "u", []byte(strings.Repeat("x", 100)))
	}
	table := (*Table)(nil).Becoming(all)
	w := &walker{t: t, s: New(cfg)}
	w.s.Want(cds, table)
	w.request("cds", "*")
	if m := w.next(); len(m.Resources) != 100 {
		t.Errorf("first response has %d resources", len(m.Resources))
	}
	for name := range all {
		all[name] = NewResource(name, "2", "u", []byte(strings.Repeat("x", 100)))
	}
	w.s.Want(cds, table.Becoming(all))
	if m := w.next(); len(m.Resources) > 10 {
		t.Errorf("second response has %d resources", len(m.Resources))
	}
}

// A peer that answers nothing is sent no more than the window of a type; others
// go on.
func TestWindow(t *testing.T) {
	cfg := independent()
	cfg.Window = 3
	w := &walker{t: t, s: New(cfg)}
	table := NewTable()
	w.s.Want(cds, table)
	w.s.Want(eds, NewTable(resource("e", "1")))
	w.request("cds", "*")
	var last *Message
	for i := range 10 {
		if m := w.s.Next(w.now); m != nil {
			last = m
		}
		table = table.With(map[string]*Resource{"a": resource("a", fmt.Sprint(i))})
		w.s.Want(cds, table)
	}
	if last.Nonce != "3" {
		t.Fatalf("last is %s", describe(last))
	}
	w.request("eds", "*")
	if m := w.next(); m.URL != "eds" {
		t.Fatalf("sent %s", describe(m))
	}
	w.ack(last)
	if m := w.next(); describe(m) != "< 5 cds +a@9" {
		t.Fatalf("sent %s", describe(m))
	}
}

func TestRetry(t *testing.T) {
	cfg := independent()
	cfg.RetryMin, cfg.RetryMax = time.Second, 3*time.Second
	w := &walker{t: t, s: New(cfg), now: time.Unix(1e9, 0)}
	w.s.Want(cds, NewTable(resource("a", "1"), resource("b", "1")))
	w.request("cds", "a")
	m := w.next()
	for _, wait := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		w.nack(m, "not now")
		if early := w.s.Next(w.now); early != nil {
			t.Fatalf("sent at once: %s", describe(early))
		}
		if at := w.s.Deadline(w.now); at != w.now.Add(wait) {
			t.Fatalf("retry in %v, want %v", at.Sub(w.now), wait)
		}
		w.now = w.now.Add(wait)
		m = w.next()
	}
	if n := len(w.s.Rejections()); n != 1 {
		t.Errorf("%d rejections while it is retried", n)
	}
	w.ack(m)
	if n := len(w.s.Rejections()); n != 0 {
		t.Errorf("%d rejections when it is accepted", n)
	}
}

// A stream that is in step keeps nothing per resource.
func TestInStepHoldsNothing(t *testing.T) {
	cfg := envoyLike()
	cfg.Names = new(Pool)
	var sets []*names
	clusters := map[string]*Resource{}
	var list []string
	for i := range 1000 {
		name := fmt.Sprint("n", i)
		clusters[name] = resource(name, "1")
		list = append(list, name)
	}
	table := (*Table)(nil).Becoming(clusters)
	changed := table.With(map[string]*Resource{"n7": resource("n7", "2")})
	for range 3 {
		w := &walker{t: t, s: New(cfg)}
		w.s.Want(cds, table)
		w.s.Want(eds, table)
		w.request("cds", "*")
		w.ack(w.next())
		w.request("eds", list...)
		w.ack(w.next())
		w.s.Want(eds, changed)
		if m := w.next(); describe(m) != "< 3 eds +n7@2" {
			t.Fatalf("sent %s", describe(m))
		} else {
			w.ack(m)
		}
		for _, i := range []int{cds, eds} {
			if s := &w.s.types[i]; s.off != nil || s.inflight != nil || s.base != s.want || s.stated != nil {
				t.Errorf("type %d holds %d names, %d messages", i, len(s.off), len(s.inflight))
			}
		}
		sets = append(sets, w.s.types[eds].names)
	}
	if sets[0] != sets[1] || sets[1] != sets[2] || sets[0].len() != 1000 {
		t.Error("equal subscriptions are not shared")
	}
}
