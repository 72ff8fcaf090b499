package dpserver

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	meshproto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

func TestProxyBringsItsDataplane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		s := z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "")
		dp := z.get(kind.Dataplane, "shop", "cart-1")
		if dp == nil || dp.Labels["app"] != "cart" || dp.Labels[resource.LabelZone] != "east" || dp.Labels[resource.LabelOrigin] != "zone" {
			t.Fatalf("stored: %v", dp)
		}
		synctest.Wait()
		in := z.insight("cart-1")
		if !kind.DataplaneOnline(in) {
			t.Fatalf("not online: %v", in)
		}
		sub := in.Subscriptions[0]
		if sub.ControlPlaneInstanceId != "cp-1" || !sub.Version.KumaDp.KumaCpCompatible || sub.Version.Envoy.Version != "1.40.0" ||
			sub.Version.Dependencies["coredns"] != "1.11" {
			t.Errorf("subscription %v", sub)
		}
		if _, dup := in.Metadata.Fields[keyResource]; dup || !in.Metadata.Fields[keyBrought].GetBoolValue() {
			t.Errorf("metadata %v", in.Metadata)
		}
		s.Close(nil)
		synctest.Wait()
		if kind.DataplaneOnline(z.insight("cart-1")) || z.attachments("cart-1") != 0 {
			t.Error("still connected after the stream's end")
		}
		time.Sleep(10*time.Second - time.Millisecond)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") == nil {
			t.Error("removed before the delay was over")
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") != nil || z.insight("cart-1") != nil {
			t.Error("not removed after the delay")
		}
		if len(z.proxies.seats) != 0 {
			t.Error("the seat is still kept")
		}
	})
}

func TestReconnectKeepsTheDataplane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		text := dataplaneJSON("cart-1", "192.0.2.1")
		z.mustOpen("cart-1", text, "").Close(nil)
		time.Sleep(9 * time.Second)
		s := z.mustOpen("cart-1", text, "")
		time.Sleep(time.Minute)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") == nil || !kind.DataplaneOnline(z.insight("cart-1")) {
			t.Error("removed though the proxy is back")
		}
		if n := len(z.insight("cart-1").Subscriptions); n != 2 {
			t.Errorf("%d subscriptions", n)
		}
		s.Close(nil)
		z.mustOpen("cart-1", text, "")
		synctest.Wait()
		if n := len(z.insight("cart-1").Subscriptions); n != keptSubscriptions {
			t.Errorf("%d subscriptions", n)
		}
	})
}

func TestNewestStreamWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		text := dataplaneJSON("cart-1", "192.0.2.1")
		var ended error
		old := z.mustOpen("cart-1", text, "")
		old.end = func(err error) { ended = err }
		time.Sleep(time.Second)
		z.mustOpen("cart-1", text, "")
		if status.Code(ended) != codes.Aborted {
			t.Errorf("the old stream was not ended: %v", ended)
		}
		old.Close(ended)
		time.Sleep(time.Minute)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") == nil {
			t.Error("the end of the old stream removed the Dataplane")
		}
		subs := z.insight("cart-1").Subscriptions
		if len(subs) != 2 || subs[0].DisconnectTime == nil || subs[1].DisconnectTime != nil {
			t.Errorf("subscriptions %v", subs)
		}
		if z.attachments("cart-1") != 1 || z.Count() != 1 {
			t.Errorf("%d attachments, %d proxies", z.attachments("cart-1"), z.Count())
		}
	})
}

func TestOwnShutdownKeepsDataplanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		s := z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "")
		z.proxies.stop()
		s.Close(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") == nil {
			t.Error("removed")
		}
		if kind.DataplaneOnline(z.insight("cart-1")) {
			t.Error("the end of the stream was not written")
		}
		if _, err := z.open("cart-1", "", ""); status.Code(err) != codes.Unavailable {
			t.Errorf("a stopping server answers %v", err)
		}
	})
}

func TestReconnectElsewhereKeepsTheDataplane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "").Close(nil)
		synctest.Wait()
		old := z.get(kind.DataplaneInsight, "shop", "cart-1")
		in := proto.Clone(z.insight("cart-1")).(*meshproto.DataplaneInsight)
		in.Subscriptions = append(in.Subscriptions, &meshproto.DiscoverySubscription{
			Id: "x", ControlPlaneInstanceId: "cp-2", ConnectTime: timestamppb.Now(),
		})
		o, err := old.Kind.New(old.Meta, in, nil)
		if err != nil {
			t.Fatal(err)
		}
		z.write(store.Put(o, store.Any, "cp-2"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") == nil {
			t.Error("removed though another control plane serves the proxy")
		}
		z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "")
	})
}

func TestDataplaneThatExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		// It may appear while the proxy waits.
		time.AfterFunc(3*time.Second, func() { z.put(dataplaneJSON("cart-1", "192.0.2.1")) })
		begun := time.Now()
		z.mustOpen("cart-1", "", "").Close(nil)
		if took := time.Since(begun); took != 3*time.Second {
			t.Errorf("admitted after %s", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "cart-1") == nil {
			t.Error("a Dataplane that its proxy did not bring was removed")
		}
		if _, err := z.open("cart-2", "", ""); status.Code(err) != codes.NotFound {
			t.Errorf("without Dataplane: %v", err)
		}
		if len(z.proxies.seats) != 0 {
			t.Error("a refused proxy is remembered")
		}
	})
}

func TestAuthentication(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, func(c *Config) { c.Authenticate = byLabel })
		text := dataplaneJSON("cart-1", "192.0.2.1")
		for token, want := range map[string]codes.Code{"": codes.Unauthenticated, "other": codes.Unauthenticated} {
			if _, err := z.open("cart-1", text, token); status.Code(err) != want {
				t.Errorf("token %q: %v", token, err)
			}
		}
		if z.get(kind.Dataplane, "shop", "cart-1") != nil {
			t.Fatal("registered without a valid token")
		}
		z.mustOpen("cart-1", text, "cart").Close(nil)

		// The token of one app does not take over the Dataplane of another.
		stolen := strings.Replace(dataplaneJSON("cart-1", "192.0.2.66"), `"app":"cart"`, `"app":"thief"`, 1)
		if _, err := z.open("cart-1", stolen, "thief"); status.Code(err) != codes.PermissionDenied {
			t.Errorf("taking over: %v", err)
		}
		if got := kind.NetworkingOf(z.get(kind.Dataplane, "shop", "cart-1")).GetAddress(); got != "192.0.2.1" {
			t.Errorf("address %s", got)
		}
		// Its own may be replaced.
		z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.2"), "cart")
		if got := kind.NetworkingOf(z.get(kind.Dataplane, "shop", "cart-1")).GetAddress(); got != "192.0.2.2" {
			t.Errorf("address %s", got)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		for name, c := range map[string]struct {
			node, text string
			want       codes.Code
			say        string
		}{
			"no mesh in the id":   {"", "", codes.InvalidArgument, "<mesh>"},
			"another's Dataplane": {"cart-1", dataplaneJSON("cart-2", "192.0.2.1"), codes.InvalidArgument, "cart-2"},
			"invalid Dataplane":   {"cart-1", `{"type":"Dataplane","mesh":"shop","name":"cart-1","networking":{}}`, codes.InvalidArgument, "networking.address"},
			"not JSON":            {"cart-1", "{", codes.InvalidArgument, "JSON"},
			"unknown mesh":        {"cart-1", strings.ReplaceAll(dataplaneJSON("cart-1", "192.0.2.1"), `"shop"`, `"shup"`), codes.InvalidArgument, "shup"},
		} {
			_, err := z.open(c.node, c.text, "")
			if status.Code(err) != c.want || !strings.Contains(err.Error(), c.say) {
				t.Errorf("%s: %v", name, err)
			}
		}
		n := node(t, "a", strings.ReplaceAll(dataplaneJSON("a", "192.0.2.1"), `"shop"`, `"shup"`))
		n.Id = "shup.a"
		if _, err := z.proxies.Open(t.Context(), n, false); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("unknown mesh: %v", err)
		}
	})
}

func TestRejectionsAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		s := z.mustOpen("cart-1", dataplaneJSON("cart-1", "192.0.2.1"), "")
		synctest.Wait()
		before := z.cfg.View.Snapshot().Revision()
		var r xds.Report
		r.Types[xds.Clusters] = xds.Counters{Sent: 2, Acked: 1}
		s.Delivered(r)
		synctest.Wait()
		if z.cfg.View.Snapshot().Revision() != before {
			t.Error("counters alone were written")
		}
		r.Revision = 7
		r.Types[xds.Clusters] = xds.Counters{Sent: 2, Acked: 2}
		s.Delivered(r)
		synctest.Wait()
		if got := z.insight("cart-1").Subscriptions[0].Status.Cds.ResponsesAcknowledged; got != 2 {
			t.Errorf("first acknowledgement: %d", got)
		}
		r.Types[xds.Listeners].Rejected = 1
		r.Rejections = []xds.Rejection{{Type: xds.Listeners, Name: "a", Error: "bad"}}
		s.Delivered(r)
		synctest.Wait()
		st := z.insight("cart-1").Subscriptions[0].Status
		if st.Lds.ResponsesRejected != 1 || st.Total.ResponsesRejected != 1 {
			t.Errorf("rejection: %v", st)
		}
		got, ok := z.Connected(s.proxy.ID)
		if !ok || len(got.Report.Rejections) != 1 {
			t.Errorf("status %+v", got)
		}
	})
}

// TestManyProxiesShareWrites opens a thousand streams at once.
func TestManyProxiesShareWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 1000
		z := newZone(t, nil)
		sessions := make([]*session, n)
		errs := make(chan error, n)
		for i := range n {
			go func() {
				name := fmt.Sprintf("cart-%d", i)
				s, err := z.open(name, dataplaneJSON(name, "192.0.2.1"), "")
				sessions[i] = s
				errs <- err
			}()
		}
		for range n {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		for i := range n {
			if !kind.DataplaneOnline(z.insight(fmt.Sprintf("cart-%d", i))) {
				t.Fatalf("cart-%d is not online", i)
			}
		}
		if rev := z.cfg.View.Snapshot().Revision(); rev > 50 {
			t.Errorf("%d commits for %d proxies", rev, n)
		}
		z.mu.Lock()
		before := z.writes
		z.mu.Unlock()
		for _, s := range sessions {
			s.Close(nil)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := z.cfg.View.Snapshot().Count(kind.Dataplane, ""); got != 0 {
			t.Errorf("%d Dataplanes are left", got)
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		if got := z.writes - before; got > 50 {
			t.Errorf("%d writes for the end of %d proxies", got, n)
		}
	})
}

// TestConflictsDoNotStopTheBatch changes an insight behind the writer's back.
func TestConflictsDoNotStopTheBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		text := func(name string) string { return dataplaneJSON(name, "192.0.2.1") }
		a, b := z.mustOpen("a", text("a"), ""), z.mustOpen("b", text("b"), "")
		synctest.Wait()
		old := z.get(kind.DataplaneInsight, "shop", "a")
		in := proto.Clone(z.insight("a")).(*meshproto.DataplaneInsight)
		in.MTLS = &meshproto.DataplaneInsight_MTLS{IssuedBackend: "x"}
		o, err := old.Kind.New(old.Meta, in, nil)
		if err != nil {
			t.Fatal(err)
		}
		stale := z.cfg.View.Snapshot()
		z.write(store.Put(o, store.Any, "somebody"))
		ids := []resource.ID{a.proxy.ID, b.proxy.ID}
		batch := map[resource.ID]*change{ids[0]: {sessions: []*session{a}}, ids[1]: {sessions: []*session{b}}}
		time.Sleep(time.Second) // so that the subscriptions differ
		if err := z.writer.writeEach(t.Context(), stale.Revision(), ids, batch); err != nil {
			t.Fatal(err)
		}
		if got := z.insight("a"); got.GetMTLS().GetIssuedBackend() != "x" || !kind.DataplaneOnline(got) {
			t.Errorf("somebody's change was lost: %v", got)
		}
	})
}

func TestLeftoversOfAKilledRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := newZone(t, nil)
		z.put(dataplaneJSON("kept", "192.0.2.9"))
		z.mustOpen("gone", dataplaneJSON("gone", "192.0.2.1"), "")
		z.mustOpen("back", dataplaneJSON("back", "192.0.2.2"), "")
		z.mustOpen("kept", "", "")
		synctest.Wait()
		// The next run: same store, new instance, and no session.
		z.cfg.InstanceID = "cp-2"
		z.proxies = newProxies(z.Server)
		z.mustOpen("back", dataplaneJSON("back", "192.0.2.2"), "")
		begun := time.Now()
		z.endStale(t.Context())
		if took := time.Since(begun); took != comeBack {
			t.Errorf("looked after %s", took)
		}
		synctest.Wait()
		if z.get(kind.Dataplane, "shop", "gone") != nil || z.insight("gone") != nil {
			t.Error("the Dataplane of a proxy that did not come back is left")
		}
		if !kind.DataplaneOnline(z.insight("back")) {
			t.Error("a proxy that came back is not online")
		}
		if z.get(kind.Dataplane, "shop", "kept") == nil || kind.DataplaneOnline(z.insight("kept")) {
			t.Error("a Dataplane that its proxy did not bring must stay, without being online")
		}
	})
}

// held is a store whose writes wait to be let through.
type held struct {
	store.Store
	begun   chan struct{}
	through chan struct{}
}

func (h *held) Write(ctx context.Context, ops ...store.Op) (store.Revision, error) {
	h.begun <- struct{}{}
	select {
	case <-h.through:
		return h.Store.Write(ctx, ops...)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// A server that stops flushes and then ends its writer: what that is writing at
// the moment must not be lost.
func TestFlushWaitsForAWriteUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{begun: make(chan struct{}), through: make(chan struct{})}
		z := newZone(t, nil)
		z.put(dataplaneJSON("cart-1", "10.0.0.1"))
		s := z.mustOpen("cart-1", "", "")
		synctest.Wait()
		h.Store, z.cfg.Store = z.cfg.Store, h
		s.Close(nil)
		<-h.begun
		flushed := make(chan error, 1)
		go func() { flushed <- z.writer.flush(t.Context(), true) }()
		synctest.Wait()
		select {
		case err := <-flushed:
			t.Errorf("flushed while a write is under way: %v", err)
		default:
		}
		close(h.through)
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		if kind.DataplaneOnline(z.insight("cart-1")) {
			t.Error("the end of the stream was not written")
		}
	})
}
