package dpserver

import (
	"net/http/httptest"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/delta"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// TestAgentsAreTold: an agent is asked to look when its Envoy has acknowledged
// something new for it, when it connects late, and that it has to keep looking
// when its Envoy is gone.
func TestAgentsAreTold(t *testing.T) {
	z := newZone(t, nil)
	server := httptest.NewTLSServer(z.handler())
	defer server.Close()
	s := z.mustOpen("cart-1", dataplaneJSON("cart-1", "127.0.0.1"), "")
	z.catchUp()
	asked := make(chan string, 10)
	hear := func(path string) string { asked <- path; return "ok" }
	_, ended := agentOf(t, server, "cart-1", "", hear)
	told := s.Attachment.(*attachment)
	give := func(revision uint64, version string) {
		c := xds.Changes{xds.Routes: map[string]*delta.Resource{toldRoutes: {Name: toldRoutes, Version: version}}}
		told.set.Store(xds.NewSet(revision, (*xds.Layer)(nil).Becoming(c)))
	}
	next := func(what, tells string) {
		t.Helper()
		if got := <-asked; got != "/configuration?tells="+tells {
			t.Errorf("%s: asked for %s", what, got)
		}
	}
	give(3, "one")
	s.Delivered(xds.Report{Revision: 2}) // is not about it
	s.Delivered(xds.Report{Revision: 3})
	next("the first", "true")
	s.Delivered(xds.Report{Revision: 3})
	give(4, "one")
	s.Delivered(xds.Report{Revision: 4}) // the same
	give(5, "two")
	s.Delivered(xds.Report{Revision: 5})
	next("another", "true")
	if n := len(asked); n > 0 {
		t.Errorf("%d more questions", n)
	}

	_, late := agentOf(t, server, "cart-1", "", hear)
	<-ended
	next("who connects late", "true")
	s.Close(nil)
	for <-asked != "/configuration?tells=false" { // it may have been under way to be told again
	}
	z.questions.stop()
	<-late
}
