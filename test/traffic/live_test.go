package traffic_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
	"github.com/atoll-mesh/atoll/test/traffic"
)

// Ports of the client's outbounds.
const (
	toWeb = 10001 + iota
	toNext
	toDB
	toDBNext
	toGRPC
	toH2
	toPool
	toTCPPool
	toGRPCPool
	toBlackHole
)

// Ports of the server's inbounds.
const (
	inWeb = 8080 + iota
	inNext
	inDB
	inDBNext
	inGRPC
	inH2
)

// live is a control plane with a client and a server, all real processes, in
// which every change is a call of the API.
type live struct {
	*cluster.Cluster
	zone           *cluster.ControlPlane
	mesh           string
	client, server *cluster.Proxy
	apps           map[string]*traffic.Server
	http           *http.Client // with connections that stay open
	took           []time.Duration
}

const liveServices = `
type: MeshService
name: %[1]s
labels: {app: %[1]s}
spec:
  selector: {dataplaneLabels: {matchLabels: {%[2]s}}}
  ports: [{port: 80, name: main, targetPort: %[3]s, appProtocol: %[4]s}]`

// startLive runs the processes.
func startLive(t *testing.T, mesh string) *live {
	t.Helper()
	ctx := t.Context()
	c := clustertest.New(t)
	zone, err := c.Zone(ctx, "east")
	if err != nil {
		t.Fatal(err)
	}
	l := &live{
		Cluster: c, zone: zone, mesh: mesh, apps: map[string]*traffic.Server{},
		http: &http.Client{
			Timeout:       10 * time.Second,
			Transport:     &http.Transport{MaxIdleConnsPerHost: 4},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	t.Cleanup(l.http.CloseIdleConnections)
	l.put(t, "type: Mesh\nname: "+mesh+"\nskipCreatingInitialPolicies: [MeshRetry]\n") // retries would hide failures
	for _, name := range []string{"web", "next", "a", "b", "c"} {
		l.apps[name] = traffic.Serve(t, echo(name))
	}
	for _, s := range [][3]string{
		{"web", "web", "http"}, {"next", "next", "http"}, {"db", "db", "tcp"}, {"db-next", "db-next", "tcp"},
		{"grpc", "grpc", "grpc"}, {"h2", "h2", "http2"},
	} {
		l.put(t, fmt.Sprintf(liveServices, s[0], "app: server", s[1], s[2]))
	}
	for _, s := range [][2]string{{"pool", "http"}, {"tcp-pool", "tcp"}, {"grpc-pool", "grpc"}, {"black-hole", "http"}} {
		l.put(t, fmt.Sprintf(liveServices, s[0], "pool: "+s[0], "main", s[1]))
	}
	outbounds := ""
	for i, name := range []string{"web", "next", "db", "db-next", "grpc", "h2", "pool", "tcp-pool", "grpc-pool", "black-hole"} {
		outbounds += fmt.Sprintf("  - {address: %%s, port: %d, backendRef: {kind: MeshService, name: %s, port: 80}}\n", toWeb+i, name)
	}
	db, dbNext := traffic.ServeTCP(t, "db"), traffic.ServeTCP(t, "db-next")
	l.server, err = c.Proxy(ctx, zone, zone, cluster.ProxySpec{
		Mesh: mesh, Name: "server", Labels: map[string]string{"app": "server", "kuma.io/workload": "server"},
		Networking: fmt.Sprintf(`  inbound:
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, name: web, protocol: http}
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, name: next, protocol: http}
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, name: db, protocol: tcp}
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, name: db-next, protocol: tcp}
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, name: grpc, protocol: grpc}
  - {port: %d, servicePort: %d, serviceAddress: 127.0.0.1, name: h2, protocol: http2}
`, inWeb, l.apps["web"].Port, inNext, l.apps["next"].Port, inDB, db, inDBNext, dbNext, inGRPC, flaky(t), inH2, l.apps["web"].Port),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"a", "b", "c"} {
		l.endpoint(t, fmt.Sprintf("pool-%d", i), "pool", l.apps[name].Port, "rack: r"+fmt.Sprint(i+1))
	}
	l.endpoint(t, "black-hole", "black-hole", traffic.BlackHole(t), "rack: none")
	l.client, err = c.Proxy(ctx, zone, zone, cluster.ProxySpec{
		Mesh: mesh, Name: "client", Labels: map[string]string{"app": "client", "rack": "r1", "kuma.io/workload": "client"},
		Networking: "  inbound:\n  - {port: 8080, servicePort: 9, serviceAddress: 127.0.0.1, name: main, protocol: tcp}\n  outbound:\n" + outbounds,
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// echo tells what arrived.
func echo(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/slow"):
			select {
			case <-r.Context().Done():
			case <-time.After(2 * time.Second): // longer than what is tested
			}
		case strings.HasSuffix(r.URL.Path, "/drip"):
			for range 40 { // a response that goes on for two seconds
				_, _ = io.WriteString(w, ".")
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		case strings.HasSuffix(r.URL.Path, "/big"):
			_, _ = w.Write(make([]byte, 64<<10))
			return
		}
		w.Header().Set("x-from", "app")
		_, _ = fmt.Fprintf(w, "%s %s %s host=%s in=%s", name, r.Method, r.URL.RequestURI(), r.Host, r.Header.Get("x-in"))
		if c := r.Header.Get("x-forwarded-client-cert"); c != "" {
			_, _ = fmt.Fprint(w, " by ", c)
		}
	}
}

// endpoint makes a Dataplane that an application of the test stands for.
func (l *live) endpoint(t *testing.T, name, pool string, port int, labels string) {
	l.put(t, fmt.Sprintf("type: Dataplane\nname: %s\nlabels: {pool: %s, %s}\nnetworking: {address: 127.0.0.1, inbound: [{port: %d, name: main, protocol: %s}]}",
		name, pool, labels, port, map[bool]string{true: "tcp", false: "http"}[strings.HasPrefix(pool, "tcp")]))
}

// put writes resources, separated by ---, one after the other.
func (l *live) put(t *testing.T, docs string) {
	t.Helper()
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		traffic.Applied.Applied(t, doc)
		if err := l.zone.Put(t.Context(), l.path(t, doc), strings.TrimSpace(doc)+l.meshLine(doc)); err != nil {
			t.Fatalf("%v in:\n%s", err, doc)
		}
	}
}

func (l *live) meshLine(doc string) string {
	if strings.Contains(doc, "type: Mesh\n") {
		return "\n"
	}
	return "\nmesh: " + l.mesh + "\n"
}

func (l *live) path(t *testing.T, doc string) string {
	t.Helper()
	var head struct{ Type, Name string }
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		t.Fatalf("%v in:\n%s", err, doc)
	}
	if head.Type == "Mesh" {
		return "/meshes/" + head.Name
	}
	plural := strings.ToLower(head.Type) + "s"
	switch head.Type {
	case "MeshLoadBalancingStrategy":
		plural = "meshloadbalancingstrategies"
	case "MeshRetry":
		plural = "meshretries"
	case "MeshProxyPatch":
		plural = "meshproxypatches"
	case "MeshTLS":
		plural = "meshtlses"
	case "MeshIdentity":
		plural = "meshidentities"
	case "MeshHealthCheck":
		plural = "meshhealthchecks"
	case "MeshPassthrough":
		plural = "meshpassthroughs"
	}
	return "/meshes/" + l.mesh + "/" + plural + "/" + head.Name
}

func (l *live) remove(t *testing.T, docs string) {
	t.Helper()
	for doc := range strings.SplitSeq(docs, "\n---\n") {
		if err := l.zone.Do(t.Context(), http.MethodDelete, l.path(t, doc), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// effect waits until traffic shows a change, and notes how long that took since
// begun.
func (l *live) effect(t *testing.T, what string, begun time.Time, seen func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var tries int
	var took time.Duration
	err := cluster.Until(ctx, what, func(context.Context) error {
		tries++
		asked := time.Now() // a check that waits for something may itself take long
		if seen() {
			took = asked.Sub(begun)
			return nil
		}
		return fmt.Errorf("not seen in %d looks", tries)
	})
	if err != nil {
		t.Fatal(err)
	}
	l.took = append(l.took, took)
	t.Logf("%-28s %4d ms", what, took.Milliseconds())
}

// glance is how long a look at something slow may take, so that the next look
// comes soon.
const glance = 150 * time.Millisecond

// ask returns the answer to a request through the client's Envoy. Its status is 0
// if there was none, and negative if it broke off.
func (l *live) ask(method string, port int, path string, headers ...string) traffic.Reply {
	ctx := context.Background()
	if strings.HasSuffix(path, "/slow") || strings.HasSuffix(path, "/drip") {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, glance)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://%s:%d%s", l.client.Spec.Address, port, path), nil)
	if err != nil {
		return traffic.Reply{}
	}
	req.Host = "svc.test"
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return traffic.Reply{Body: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if ctx.Err() != nil {
		return traffic.Reply{}
	}
	if err != nil {
		return traffic.Reply{Status: -resp.StatusCode, Body: err.Error(), Header: resp.Header}
	}
	return traffic.Reply{Status: resp.StatusCode, Body: string(b), Header: resp.Header}
}

func (l *live) get(port int, path string, headers ...string) traffic.Reply {
	return l.ask(http.MethodGet, port, path, headers...)
}

// greeting is what a connection through the client's Envoy begins with.
func (l *live) greeting(port int) string {
	c, err := net.Dial("tcp", net.JoinHostPort(l.client.Spec.Address, fmt.Sprint(port)))
	if err != nil {
		return ""
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	b := make([]byte, 64)
	n, _ := c.Read(b)
	return string(bytes.TrimSpace(b[:n]))
}

// summary of all that was measured.
func (l *live) summary(t *testing.T) (median, longest time.Duration) {
	slices.Sort(l.took)
	median, longest = l.took[len(l.took)/2], l.took[len(l.took)-1]
	within := 0
	for _, d := range l.took {
		if d <= 300*time.Millisecond {
			within++
		}
	}
	t.Logf("%d changes from the call of the API to the effect: median %s, longest %s; %d within 300 ms",
		len(l.took), median.Round(time.Millisecond), longest.Round(time.Millisecond), within)
	return median, longest
}
