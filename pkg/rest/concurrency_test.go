package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atoll-mesh/atoll/pkg/config"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// A user's write must not fail because a control plane writes statuses of the
// same resource at the same time, nor lose them.
func TestWritersOfOneResourceDoNotGetInEachOthersWay(t *testing.T) {
	w := newWorld(t, standalone)
	const path = "/meshes/default/meshservices/web"
	body := func(port int) string {
		return fmt.Sprintf(`{"type":"MeshService","mesh":"default","name":"web","spec":{"ports":[{"port":%d}]}}`, port)
	}
	w.wantStatus(w.put(path, body(1)), 201)
	id := resource.ID{Type: kind.MeshService, Mesh: "default", Name: "web"}
	var wg sync.WaitGroup
	for user := range 4 {
		wg.Go(func() {
			for i := range 25 {
				if a := w.put(path, body(1+user*100+i)); a.Status != 200 {
					t.Errorf("%d %s", a.Status, a.Body)
				}
			}
		})
	}
	wg.Go(func() {
		for i := 0; i < 10; { // that many succeed: users come to an end
			s := w.view.Snapshot()
			old := s.Get(id)
			next, err := old.Kind.New(old.Meta, old.Spec, &kind.MeshServiceStatus{VIPs: []kind.VIP{{IP: fmt.Sprintf("241.0.0.%d", i)}}})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := w.store.Write(t.Context(), store.Put(next, int64(old.Version), "control")); errors.Is(err, store.ErrConflict) {
				if _, err := w.view.Wait(t.Context(), s.Revision()+1); err != nil {
					t.Error(err)
					return
				}
				continue
			} else if err != nil {
				t.Error(err)
				return
			}
			i++
		}
	})
	wg.Wait()
	if a := w.get(path); !strings.Contains(a.Body, "241.0.0.") {
		t.Errorf("the status was lost: %s", a.Body)
	}
}

// broken is a store that cannot be written.
type broken struct {
	store.Store
	err error
}

func (b broken) Write(context.Context, ...store.Op) (store.Revision, error) { return 0, b.err }

func TestStoreAway(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("postgres: %w", store.ErrUnavailable), 503}, {errors.New("disk on fire"), 500}, {store.ErrConflict, 409},
	} {
		w := newWorld(t, standalone)
		w.api.Store = broken{w.store, tc.err}
		a := w.put("/meshes/m2", `{"type":"Mesh","name":"m2"}`)
		w.wantStatus(a, tc.status)
		if p := problemOf(t, a); tc.status == 500 && strings.Contains(p.Detail, "fire") {
			t.Error("an internal cause was shown")
		}
		w.wantStatus(w.get("/meshes"), 200) // reads go on
	}
}

func TestServer(t *testing.T) {
	w := newWorld(t, standalone)
	cfg, _, err := config.Load("", []string{"ATOLL_GENERAL_WORK_DIR=" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.EnsureCertificate(); err != nil {
		t.Fatal(err)
	}
	conf, err := cfg.APIServer.HTTPS.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	srv := &Server{
		Handler: w.handler, HTTP: "127.0.0.1:0", HTTPS: "127.0.0.1:0", TLS: conf,
		Timeouts: Timeouts{ReadHeader: time.Second, Read: 10 * time.Second, Write: 30 * time.Second, Idle: time.Minute},
	}
	listeners, err := srv.Listen()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, listeners) }()

	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, ExpectContinueTimeout: 10 * time.Second,
	}}
	for i, scheme := range []string{"http", "https"} {
		base := scheme + "://" + listeners[i].Addr().String()
		resp, err := client.Get(base + "/meshes?size=1")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"default"`)) {
			t.Errorf("%s: %d %s", scheme, resp.StatusCode, body)
		}
		if scheme == "https" && resp.ProtoMajor != 2 {
			t.Errorf("HTTPS speaks %s", resp.Proto)
		}
		// Every client gets to see why its body is refused, whether it states the
		// size, streams, or waits to be asked.
		for _, length := range []int64{16 << 20, -1} {
			for _, expect := range []string{"", "100-continue"} {
				req, _ := http.NewRequest("PUT", base+"/meshes/m", io.LimitReader(zeros{}, 16<<20))
				req.ContentLength = length
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Expect", expect)
				resp, err = client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 413 {
					t.Errorf("%s: %d", scheme, resp.StatusCode)
				}
			}
		}
	}
	client.CloseIdleConnections()
	if _, err := (&Server{HTTP: listeners[0].Addr().String()}).Listen(); err == nil {
		t.Error("a port was opened twice")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", listeners[0].Addr().String(), time.Second); err == nil {
		t.Error("still listening after the end")
	}
}

// Callers can make up methods; each must not become series of its own.
func TestMetricsOfUnknownMethods(t *testing.T) {
	w := newWorld(t, standalone, func(c *Config) { c.Metrics = prometheus.NewRegistry() })
	for _, method := range []string{"GET", "BREW1", "BREW2", "get"} {
		w.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, "/meshes", nil))
	}
	families, err := w.api.Metrics.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		if f.GetName() != "api_server_http_request_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "method" {
					got[l.GetValue()] += m.GetHistogram().GetSampleCount()
				}
			}
		}
	}
	if want := map[string]uint64{"GET": 1, "other": 3}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
