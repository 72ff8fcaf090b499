package delta

import (
	"testing"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

func checkEncoding(t *testing.T, m *Message) {
	t.Helper()
	encoded, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if len(encoded) != proto.Size(m) || len(encoded) != m.Size() {
		t.Errorf("%d bytes, Size says %d and %d", len(encoded), proto.Size(m), m.Size())
	}
	got := &discovery.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(encoded, got); err != nil {
		t.Fatal(err)
	}
	want := m.Response()
	for _, r := range want.Resources {
		if r.Resource != nil && r.Resource.TypeUrl == "" && len(r.Resource.Value) == 0 {
			r.Resource = nil
		}
	}
	if !proto.Equal(got, want) {
		t.Errorf("decoded\n%v\nwant\n%v", got, want)
	}
}

// The protocol, point by point, without phases.
func TestSubscriptions(t *testing.T) {
	for name, script := range map[string]string{
		"explicit wildcard": `
			want cds a@1 b@1
			sub cds *
			< 1 cds +a@1 +b@1
			ack 1
			want cds a@2 b@1 c@1
			< 2 cds +a@2 +c@1
			want cds a@2 c@1
			< 3 cds -b
			ack 2 3
			sub cds *            // is no news
			want cds a@2 c@1`,
		"an empty first request is a wildcard": `
			want cds a@1
			sub cds -
			< 1 cds +a@1
			sub cds -
			want cds a@1 b@1
			< 2 cds +b@1`,
		"an empty first request stays a wildcard when a name is added": `
			want cds a@1 b@1
			sub cds -
			< 1 cds +a@1 +b@1
			sub cds a            // named again: sent again
			< 2 cds +a@1
			want cds a@1 b@2
			< 3 cds +b@2
			unsub cds *          // only a is left
			want cds a@2 b@3
			< 4 cds +a@2`,
		"the first wildcard request is answered even if there is nothing": `
			want cds
			sub cds *
			< 1 cds
			ack 1
			want cds a@1
			< 2 cds +a@1`,
		"nothing is answered before it is known what exists": `
			sub cds *
			sub eds x
			want cds
			< 1 cds
			want eds x@1 y@1
			< 2 eds +x@1`,
		"every named resource is answered": `
			want eds a@1
			sub eds a b
			< 1 eds +a@1 -b
			ack 1
			want eds a@1 b@1
			< 2 eds +b@1
			want eds a@1
			< 3 eds -b`,
		"a name that is subscribed to again is sent again": `
			want eds a@1
			sub eds a
			< 1 eds +a@1
			ack 1
			sub eds a
			< 2 eds +a@1
			sub eds nothing
			< 3 eds -nothing
			sub eds nothing
			< 4 eds -nothing`,
		"a name given up is not sent": `
			want eds a@1 b@1
			sub eds a b
			< 1 eds +a@1 +b@1
			unsub eds a
			want eds a@2 b@1
			unsub eds b          // the last one: no wildcard follows from that
			want eds a@3 b@3 c@3
			sub eds a
			< 2 eds +a@3`,
		"giving up a name under a wildcard is answered": `
			want cds a@1 b@1
			sub cds * a gone
			< 1 cds +a@1 +b@1 -gone
			ack 1
			unsub cds a          // still there by the wildcard
			< 2 cds +a@1
			unsub cds gone
			< 3 cds -gone
			unsub cds b          // never named: the peer may have dropped it all the same
			< 4 cds +b@1`,
		"a wildcard after names sends the rest": `
			want eds a@1 b@1
			sub eds a
			< 1 eds +a@1
			sub eds *
			< 2 eds +b@1
			want eds b@1
			< 3 eds -a`,
		"a wildcard that was given up and asked for again sends everything": `
			want cds a@1 b@1
			sub cds *
			< 1 cds +a@1 +b@1
			ack 1
			unsub cds *
			want cds a@2 b@1
			sub cds *
			< 2 cds +a@2 +b@1`,
		"names change while it is not known what exists": `
			sub eds a b
			unsub eds b
			sub eds c
			want eds a@1 b@1 c@1
			< 1 eds +a@1 +c@1`,
		"a type that is not served does not exist": `
			want cds a@1
			sub zds *
			< 1 zds
			sub yds n
			< 2 yds -n
			sub cds *
			< 3 cds +a@1`,
	} {
		t.Run(name, func(t *testing.T) { play(t, independent(), script) })
	}
}

func TestReconnect(t *testing.T) {
	for name, script := range map[string]string{
		"what the peer has is not sent": `
			want cds a@1 b@2 c@1
			sub cds * has a@1 b@1 gone@1
			< 1 cds +b@2 +c@1 -gone
			ack 1`,
		"a peer that has everything gets nothing": `
			rev 7
			want cds a@1 b@1
			sub cds - has a@1 b@1
			< 1 cds r=7
			ack 1
			want eds x@1 y@1
			sub eds x y has x@1 y@1
			delivered 7`,
		"versions stated for names": `
			want eds a@1 b@2
			sub eds a b c d has a@1 b@1 c@1
			< 1 eds +b@2 -c -d`,
		"versions of names that are not subscribed to mean nothing": `
			want eds a@1 b@2
			sub eds a has a@1 b@1
			unsub eds a
			sub eds b
			< 1 eds +b@2`,
		"versions stated before it is known what exists": `
			sub cds * has a@1 b@1 gone@1
			sub eds x y has x@1
			want cds a@1 b@2
			< 1 cds +b@2 -gone
			want eds x@1 y@1
			< 2 eds +y@1`,
		"versions stated later mean nothing": `
			want cds a@1
			sub cds *
			< 1 cds +a@1
			sub cds a has a@1
			< 2 cds +a@1`,
	} {
		t.Run(name, func(t *testing.T) { play(t, independent(), script) })
	}
	t.Run("endpoints are sent in full", func(t *testing.T) {
		play(t, envoyLike(), `
			want cds a@1
			want eds a@1 b@1
			sub cds * has a@1
			< 1 cds
			sub eds a gone has a@1 gone@1
			< 2 eds +a@1 -gone`)
	})
}

func TestVerdicts(t *testing.T) {
	for name, script := range map[string]string{
		"a stale nonce has no verdict but counts as a request": `
			want cds a@1
			sub cds a
			< 1 cds +a@1
			ack 1
			nack 1 too late
			rejected
			sub cds a
			< 2 cds +a@1`,
		"a refused resource is not sent again until it differs": `
			want cds a@1 b@1
			sub cds *
			< 1 cds +a@1 +b@1
			ack 1
			want cds a@2 b@1
			< 2 cds +a@2
			nack 2 no good
			rejected cds a@2
			want cds a@2 b@2
			< 3 cds +b@2
			ack 3
			rejected cds a@2
			want cds a@3 b@2
			< 4 cds +a@3
			rejected
			ack 4
			rejected`,
		"back to the version before the refused one": `
			want cds a@1
			sub cds *
			< 1 cds +a@1
			ack 1
			want cds a@2
			< 2 cds +a@2
			nack 2 no
			want cds a@1
			< 3 cds +a@1
			ack 3
			rejected`,
		"a refused message is sent again one by one": `
			want cds a@1
			sub cds *
			< 1 cds +a@1
			ack 1
			want cds a@1 b@1
			< 2 cds +b@1
			nack 2 b is bad
			rejected cds b@1
			want cds b@1
			< 3 cds -a
			ack 3
			rejected cds b@1
			want cds
			< 4 cds -b
			ack 4
			rejected`,
		"of what was refused only what is still wanted is listed": `
			want cds a@1
			sub cds a
			< 1 cds +a@1
			nack 1 no
			rejected cds a@1
			unsub cds a
			rejected`,
		"an answer to a later response accepts the earlier ones": `
			rev 1
			want cds a@1
			sub cds *
			< 1 cds +a@1 r=1
			rev 2
			want cds a@2
			< 2 cds +a@2 r=2
			ack 2
			delivered 2
			nack 1 stale by now
			rejected`,
		"delivered means answered": `
			rev 1
			want cds a@1
			sub cds *
			< 1 cds +a@1 r=1
			delivered 0
			rev 2
			wait 0s
			delivered 0
			ack 1
			delivered 2
			rev 3                // changes nothing for this peer
			wait 0s
			delivered 3
			rev 4
			want cds a@2
			< 2 cds +a@2 r=4
			delivered 3
			nack 2 no
			delivered 4`,
	} {
		t.Run(name, func(t *testing.T) { play(t, independent(), script) })
	}
}

func TestRefusedMessageIsSentAgainOneByOne(t *testing.T) {
	cfg := independent()
	s := New(cfg)
	s.At(1)
	s.Want(cds, NewTable(resource("a", "1"), resource("bad", "1"), resource("c", "1")))
	w := &walker{t: t, s: s}
	w.request("cds", "*")
	first := w.next()
	if m := s.Next(w.now); m != nil {
		t.Fatalf("then %s", describe(m))
	}
	w.nack(first, "something is bad")
	if s.Delivered() != 0 {
		t.Error("delivered before it is known what is bad")
	}
	s.Want(cds, NewTable(resource("a", "1"), resource("bad", "1"), resource("c", "1"), resource("d", "1")))
	seen := map[string]int{}
	for m := s.Next(w.now); m != nil; m = s.Next(w.now) {
		if len(m.Resources) != 1 {
			t.Fatalf("sent together: %s", describe(m))
		}
		name := m.Resources[0].Name
		seen[name]++
		if name == "bad" {
			w.nack(m, "bad is bad")
		} else {
			w.ack(m)
		}
	}
	for _, name := range []string{"a", "bad", "c", "d"} {
		if seen[name] != 1 {
			t.Errorf("%s was sent %d times", name, seen[name])
		}
	}
	if s.Delivered() != 1 {
		t.Error("not delivered when all was answered")
	}
	r := s.Rejections()
	if len(r) != 1 || r[0].Name != "bad" || r[0].Error != "bad is bad" {
		t.Errorf("rejections: %v", r)
	}
	if c := s.Counters(cds); c != (Counters{Sent: 5, Acked: 3, Rejected: 2}) {
		t.Errorf("counters: %+v", c)
	}
}
