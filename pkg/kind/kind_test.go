package kind_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	mesh_proto "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	system_proto "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

var kinds = resource.NewKinds(kind.All()...)

// fields decodes and validates a document and returns the paths that are wrong.
func fields(t *testing.T, typ resource.Type, doc string) []string {
	t.Helper()
	k := kinds.ByType(typ)
	o, err := k.DecodeJSON([]byte(doc))
	var errs resource.FieldErrors
	switch {
	case errors.As(err, &errs):
	case err != nil:
		t.Fatal(err)
	case k.Validate != nil:
		errs = k.Validate(o)
	}
	var paths []string
	for _, e := range errs {
		paths = append(paths, e.Field)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

func decode(t *testing.T, typ resource.Type, doc string) *resource.Object {
	t.Helper()
	o, err := kinds.ByType(typ).DecodeJSON([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestValidateDataplane(t *testing.T) {
	const ok = `"address": "10.0.0.1", `
	const out = `"outbound": [{"port": 3000, `
	const backend = `"backendRef": {"kind": "MeshService", "name": "db", "port": 80}`
	const reach = ok + `"transparentProxying": {"reachableBackends": {"refs": [`
	const refs = "networking.transparentProxing.reachableBackends.refs[0]"
	for name, c := range map[string]struct {
		networking string
		want       string // paths joined by space
	}{
		"minimal":             {ok, ""},
		"dns address":         {`"address": "web.example", `, ""},
		"ipv6 address":        {`"address": "fd00::1", `, ""},
		"no address":          {``, "networking.address"},
		"any address":         {`"address": "0.0.0.0", `, "networking.address"},
		"any v6 address":      {`"address": "::", `, "networking.address"},
		"bad address":         {`"address": "a_b", `, "networking.address"},
		"wrong type":          {`"address": 7, `, "networking.address"},
		"admin on inbound":    {`"address": "127.0.0.1", "admin": {"port": 80}, "inbound": [{"port": 80}]`, "networking.admin.port"},
		"admin elsewhere":     {ok + `"admin": {"port": 80}, "inbound": [{"port": 80, "servicePort": 81}]`, ""},
		"admin on workload":   {ok + `"admin": {"port": 80}, "inbound": [{"port": 80}]`, "networking.admin.port"},
		"admin behind":        {ok + `"admin": {"port": 81}, "inbound": [{"port": 80, "servicePort": 81}]`, "networking.admin.port"},
		"admin redirected":    {ok + `"admin": {"port": 80}, "transparentProxying": {"redirectPortInbound": 15006}, "inbound": [{"port": 80}]`, ""},
		"admin on outbound":   {ok + `"admin": {"port": 3000}, ` + out + backend + `}]`, "networking.admin.port"},
		"admin not outbound":  {ok + `"admin": {"port": 3000}, ` + out + `"address": "10.0.0.9", ` + backend + `}]`, ""},
		"gateway":             {ok + `"gateway": {"tags": {"kuma.io/service": "kong", "kuma.io/protocol": "tcp"}}`, ""},
		"gateway inbound":     {ok + `"gateway": {}, "inbound": [{"port": 80}]`, "networking.inbound"},
		"gateway listener":    {ok + `"gateway": {}, "listeners": [{"type": "ZoneIngress", "address": "10.0.0.1", "port": 1}]`, "networking.listeners"},
		"gateway no service":  {ok + `"gateway": {"tags": {"a": "b"}}`, "networking.gateway.tags"},
		"gateway protocol":    {ok + `"gateway": {"tags": {"kuma.io/service": "a", "kuma.io/protocol": "http"}}`, `networking.gateway.tags["kuma.io/protocol"]`},
		"gateway tag value":   {ok + `"gateway": {"tags": {"kuma.io/service": "a", "x": "?"}}`, `networking.gateway.tags["x"]`},
		"gateway tag name":    {ok + `"gateway": {"tags": {"kuma.io/service": "a", "x y": "z"}}`, `networking.gateway.tags["x y"]`},
		"gateway type":        {ok + `"gateway": {"type": "BUILTIN"}`, "networking.gateway.type"},
		"inbound port":        {ok + `"inbound": [{"port": 80}, {"port": 0}]`, "networking.inbound[1].port"},
		"inbound port high":   {ok + `"inbound": [{"port": 65536}]`, "networking.inbound[0].port"},
		"service port":        {ok + `"inbound": [{"port": 80, "servicePort": 65536}]`, "networking.inbound[0].servicePort"},
		"service address":     {ok + `"inbound": [{"port": 80, "serviceAddress": "x"}]`, "networking.inbound[0].serviceAddress"},
		"service loop":        {ok + `"inbound": [{"port": 80, "serviceAddress": "10.0.0.1"}]`, "networking.inbound[0].serviceAddress"},
		"service loop port":   {ok + `"inbound": [{"port": 80, "servicePort": 80, "serviceAddress": "10.0.0.1"}]`, "networking.inbound[0].serviceAddress"},
		"service other port":  {ok + `"inbound": [{"port": 80, "servicePort": 81, "serviceAddress": "10.0.0.1"}]`, ""},
		"service loop listen": {ok + `"inbound": [{"port": 80, "address": "10.0.0.2", "serviceAddress": "10.0.0.2"}]`, "networking.inbound[0].serviceAddress"},
		"inbound address":     {ok + `"inbound": [{"port": 80, "address": "x"}]`, "networking.inbound[0].address"},
		"protocol":            {ok + `"inbound": [{"port": 80, "protocol": "smtp"}]`, "networking.inbound[0].protocol"},
		"protocols":           {ok + `"inbound": [{"port": 80, "protocol": "mysql"}, {"port": 81, "protocol": "tls"}]`, ""},
		"state":               {ok + `"inbound": [{"port": 80, "state": "Broken"}]`, "networking.inbound[0].state"},
		"probe": {
			ok + `"inbound": [{"port": 80, "serviceProbe": {"interval": "0s", "timeout": "-1s", "unhealthyThreshold": 0, "healthyThreshold": 0}}]`,
			"networking.inbound[0].serviceProbe.healthyThreshold networking.inbound[0].serviceProbe.interval " +
				"networking.inbound[0].serviceProbe.timeout networking.inbound[0].serviceProbe.unhealthyThreshold",
		},
		"probe duration":      {ok + `"inbound": [{"port": 80, "serviceProbe": {"interval": "1 minute"}}]`, "networking.inbound[0].serviceProbe.interval"},
		"outbound":            {ok + out + backend + `}]`, ""},
		"outbound port":       {ok + `"outbound": [{` + backend + `}]`, "networking.outbound[0].port"},
		"outbound address":    {ok + out + `"address": "x", ` + backend + `}]`, "networking.outbound[0].address"},
		"no backend":          {ok + `"outbound": [{"port": 3000}]`, "networking.outbound[0].backendRef"},
		"backend unnamed":     {ok + out + `"backendRef": {"kind": "MeshService", "port": 80}}]`, "networking.outbound[0].backendRef"},
		"backend labels":      {ok + out + `"backendRef": {"kind": "MeshService", "labels": {"a": "b"}, "port": 80}}]`, ""},
		"backend kind":        {ok + out + `"backendRef": {"kind": "Mesh", "name": "x", "port": 80}}]`, "networking.outbound[0].backendRef.kind"},
		"backend port":        {ok + out + `"backendRef": {"kind": "MeshService", "name": "x"}}]`, "networking.outbound[0].backendRef.port"},
		"external port":       {ok + out + `"backendRef": {"kind": "MeshExternalService", "name": "x"}}]`, ""},
		"reach":               {reach + `{"kind": "MeshService", "name": "x", "namespace": "y", "port": 80}]}}`, ""},
		"reach kind":          {reach + `{"kind": "Dataplane", "name": "x"}]}}`, refs + ".kind"},
		"reach name":          {reach + `{"kind": "MeshService", "name": "X_"}]}}`, refs + ".name"},
		"reach nothing":       {reach + `{"kind": "MeshService"}]}}`, refs + ".name"},
		"reach namespace":     {reach + `{"kind": "MeshService", "namespace": "y"}]}}`, refs + ".name"},
		"reach both":          {reach + `{"kind": "MeshService", "name": "x", "labels": {"a": "b"}}]}}`, refs + ".labels"},
		"reach port":          {reach + `{"kind": "MeshService", "name": "x", "port": 0}]}}`, refs + ".port"},
		"listener":            {ok + `"listeners": [{"type": "ZoneIngress", "address": "10.0.0.1", "port": 10001}]`, ""},
		"listener type":       {ok + `"listeners": [{"address": "10.0.0.1", "port": 10001}]`, "networking.listeners[0].type"},
		"listener address":    {ok + `"listeners": [{"type": "ZoneEgress", "port": 10001}]`, "networking.listeners[0].address"},
		"listener port":       {ok + `"listeners": [{"type": "ZoneEgress", "address": "10.0.0.1"}]`, "networking.listeners[0].port"},
		"listener name taken": {ok + `"inbound": [{"port": 80, "name": "a"}], "listeners": [{"type": "ZoneEgress", "address": "10.0.0.1", "port": 1, "name": "a"}]`, "networking.listeners[0].name"},
		"listener names":      {ok + `"listeners": [{"type": "ZoneEgress", "address": "10.0.0.1", "port": 1, "name": "a"}, {"type": "ZoneEgress", "address": "10.0.0.1", "port": 2, "name": "a"}]`, "networking.listeners[1].name"},
		"listener twice":      {ok + `"listeners": [{"type": "ZoneEgress", "address": "10.0.0.1", "port": 1, "name": "a"}, {"type": "ZoneIngress", "address": "10.0.0.1", "port": 1, "name": "b"}]`, "networking.listeners[1]"},
		"listener on inbound": {ok + `"inbound": [{"port": 80, "name": "a"}], "listeners": [{"type": "ZoneEgress", "address": "10.0.0.1", "port": 80, "name": "b"}]`, "networking.listeners[0]"},
		"dropped fields":      {ok + `"inbound": [{"port": 80, "tags": {"kuma.io/service": "a"}}], "metrics": {"type": "x"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			doc := `{"type": "Dataplane", "mesh": "m", "name": "dp", "networking": {` + strings.TrimSuffix(c.networking, ", ") + `}}`
			if got := strings.Join(fields(t, kind.Dataplane, doc), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	if got := fields(t, kind.Dataplane, `{"type": "Dataplane", "mesh": "m", "name": "dp"}`); !slices.Equal(got, []string{"networking"}) {
		t.Errorf("without networking: %v", got)
	}
}

func TestValidateNames(t *testing.T) {
	for _, typ := range []resource.Type{kind.Mesh, kind.Zone, kind.MeshService, kind.MeshMultiZoneService, kind.MeshExternalService} {
		for name, ok := range map[string]bool{
			"a": true, "a-1": true, strings.Repeat("a", 63): true,
			"": false, "1a": false, "a.b": false, "a-": false, "A": false, strings.Repeat("a", 64): false,
		} {
			doc := `{"mesh": "m", "name": "` + name + `", "spec": {"match": {"port": 80}, "selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": [{"port": 80}]}}`
			if got := fields(t, typ, doc); (len(got) == 0) != ok {
				t.Errorf("%s %q: %v", typ, name, got)
			}
		}
	}
	if got := fields(t, kind.Workload, `{"name": "`+strings.Repeat("a", 254)+`", "spec": {}}`); !slices.Equal(got, []string{"name"}) {
		t.Errorf("long workload name: %v", got)
	}
	synced := `{"name": "web-` + strings.Repeat("x", 70) + `", "labels": {"kuma.io/display-name": "web"}, "spec": {}}`
	if got := fields(t, kind.MeshService, synced); len(got) != 0 {
		t.Errorf("the display name is what counts for a MeshService: %v", got)
	}
}

func TestValidateMeshService(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"empty":          {`{}`, ""},
		"upper case":     {`{"ports": [{"port": 80, "appProtocol": "TCP"}]}`, ""},
		"kafka":          {`{"ports": [{"port": 9092, "appProtocol": "kafka"}]}`, ""},
		"protocol":       {`{"ports": [{"port": 80}, {"port": 81, "appProtocol": "smtp"}]}`, "spec.ports[1].appProtocol"},
		"port":           {`{"ports": [{"port": 70000}]}`, "spec.ports[0].port"},
		"no port":        {`{"ports": [{"name": "x"}]}`, "spec.ports[0].port"},
		"target name":    {`{"ports": [{"port": 80, "targetPort": "http"}]}`, ""},
		"target bool":    {`{"ports": [{"port": 80, "targetPort": true}]}`, "spec.ports[0].targetPort"},
		"both selectors": {`{"selector": {"dataplaneRef": {"name": "a"}, "dataplaneLabels": {}}}`, "spec.selector"},
		"state":          {`{"state": "Maybe"}`, "spec.state"},
		"identity":       {`{"identities": [{"type": "Name", "value": "x"}]}`, "spec.identities[0].type"},
	} {
		doc := `{"type": "MeshService", "mesh": "m", "name": "web", "spec": ` + c.spec + `}`
		if got := strings.Join(fields(t, kind.MeshService, doc), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestValidateOtherDestinations(t *testing.T) {
	const match = `"match": {"port": 443}`
	const verify = match + `, "tls": {"verification": {`
	for name, c := range map[string]struct {
		typ        resource.Type
		spec, want string
	}{
		"multi":            {kind.MeshMultiZoneService, `{"selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": [{"port": 80, "appProtocol": "http"}]}`, ""},
		"multi no labels":  {kind.MeshMultiZoneService, `{"selector": {"meshService": {}}, "ports": [{"port": 80}]}`, "spec.selector.meshService.matchLabels"},
		"multi no ports":   {kind.MeshMultiZoneService, `{"selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": []}`, "spec.ports"},
		"multi ports":      {kind.MeshMultiZoneService, `{"selector": {"meshService": {"matchLabels": {"a": "b"}}}, "ports": [{"port": 0, "name": "", "appProtocol": "x"}]}`, "spec.ports[0].appProtocol spec.ports[0].name spec.ports[0].port"},
		"external":         {kind.MeshExternalService, `{` + match + `, "endpoints": [{"address": "api.example", "port": 1}]}`, ""},
		"external nothing": {kind.MeshExternalService, `{}`, "spec.match"},
		"external match":   {kind.MeshExternalService, `{"match": {"port": 0, "type": "x", "protocol": "tls"}}`, "spec.match.port spec.match.protocol spec.match.type"},
		"endpoint":         {kind.MeshExternalService, `{` + match + `, "endpoints": [{"address": "a_b", "port": 1}]}`, "spec.endpoints[0].address"},
		"endpoint port":    {kind.MeshExternalService, `{` + match + `, "endpoints": [{"address": "a", "port": 0, "priority": 129}]}`, "spec.endpoints[0].port spec.endpoints[0].priority"},
		"extension":        {kind.MeshExternalService, `{` + match + `, "extension": {"type": ""}, "endpoints": [{"address": "a_b", "port": 1}]}`, "spec.extension.type"},
		"tls versions":     {kind.MeshExternalService, `{` + match + `, "tls": {"version": {"min": "TLS13", "max": "TLS12"}}}`, "spec.tls.version.min"},
		"tls any max":      {kind.MeshExternalService, `{` + match + `, "tls": {"version": {"min": "TLS13"}}}`, ""},
		"tls unknown":      {kind.MeshExternalService, `{` + match + `, "tls": {"version": {"min": "SSL3"}}}`, "spec.tls.version.min"},
		"verification":     {kind.MeshExternalService, `{` + verify + `"mode": "x", "subjectAltNames": [{"type": "x", "value": ""}]}}}`, "spec.tls.verification.mode spec.tls.verification.subjectAltNames[0].type"},
		"server name":      {kind.MeshExternalService, `{` + verify + `"serverName": "a_b"}}}`, "spec.tls.verification.serverName"},
		"no key":           {kind.MeshExternalService, `{` + verify + `"clientCert": {"type": "Secret", "secretRef": {"kind": "Secret", "name": "a"}}}}}`, "spec.tls.verification.clientKey"},
		"no cert":          {kind.MeshExternalService, `{` + verify + `"clientKey": {"type": "InsecureInline", "insecureInline": {"value": "eA=="}}}}}`, "spec.tls.verification.clientCert"},
		"file":             {kind.MeshExternalService, `{` + verify + `"caCert": {"type": "File", "file": {"path": "/etc/passwd"}}}}}`, "spec.tls.verification.caCert.type"},
		"env":              {kind.MeshExternalService, `{"extension": {"type": "x"}, ` + verify + `"caCert": {"type": "EnvVar", "envVar": {"name": "HOME"}}}}}`, "spec.tls.verification.caCert.type"},
		"no secret":        {kind.MeshExternalService, `{` + verify + `"caCert": {"type": "Secret"}}}}`, "spec.tls.verification.caCert.secretRef"},
		"unnamed secret":   {kind.MeshExternalService, `{` + verify + `"caCert": {"type": "Secret", "secretRef": {"kind": "Secret", "name": ""}}}}}`, "spec.tls.verification.caCert.secretRef.name"},
		"no inline":        {kind.MeshExternalService, `{` + verify + `"caCert": {"type": "InsecureInline"}}}}`, "spec.tls.verification.caCert.insecureInline"},
		"address":          {kind.MeshZoneAddress, `{"address": "lb.example", "port": 10001}`, ""},
		"any address":      {kind.MeshZoneAddress, `{"address": "0.0.0.0", "port": 10001}`, "spec.address"},
		"address port":     {kind.MeshZoneAddress, `{"address": "10.0.0.1", "port": 70000}`, "spec.port"},
		"generator":        {kind.HostnameGenerator, `{"selector": {"meshService": {}}, "template": "{{ .DisplayName }}.{{ label \"k\" }}.{{ .Zone }}.mesh.local"}`, ""},
		"two selectors":    {kind.HostnameGenerator, `{"selector": {"meshService": {}, "meshExternalService": {}}, "template": "a"}`, "spec.selector"},
		"no template":      {kind.HostnameGenerator, `{"selector": {"meshService": {}}}`, "spec.template"},
		"empty template":   {kind.HostnameGenerator, `{"selector": {"meshService": {}}, "template": ""}`, "spec.template"},
		"bad template":     {kind.HostnameGenerator, `{"selector": {"meshService": {}}, "template": "{{ .Name"}`, "spec.template"},
		"unknown field":    {kind.HostnameGenerator, `{"selector": {"meshService": {}}, "template": "{{ .Port }}"}`, "spec.template"},
		"not a name":       {kind.HostnameGenerator, `{"selector": {"meshService": {}}, "template": "{{ .Name }}_x"}`, "spec.template"},
		"generator plugin": {kind.HostnameGenerator, `{"selector": {"meshService": {}}, "template": "a", "extension": {"type": ""}}`, "spec.extension.type"},
	} {
		doc := `{"mesh": "m", "name": "web", "spec": ` + c.spec + `}`
		if got := strings.Join(fields(t, c.typ, doc), " "); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestMeshServiceJSON(t *testing.T) {
	o := decode(t, kind.MeshService, `{"type": "MeshService", "mesh": "m", "name": "web", "labels": {"kuma.io/zone": "east"},
		"spec": {"ports": [{"port": 80, "name": "web", "targetPort": 8080}, {"port": 81, "name": "A_B", "targetPort": "adm"}]}}`)
	var doc struct {
		SNIs   []map[string]any `json:"snis"`
		Spec   json.RawMessage  `json:"spec"`
		Status json.RawMessage  `json:"status"`
	}
	if err := json.Unmarshal(o.JSON(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.SNIs) != 1 || doc.SNIs[0]["sni"] != "sni.msvc.m.east.web.web" || doc.SNIs[0]["port"] != 80.0 {
		t.Errorf("snis %v", doc.SNIs)
	}
	const want = `{"state":"Unavailable","selector":{},"ports":[{"name":"web","port":80,"targetPort":8080,"appProtocol":"tcp"},{"name":"A_B","port":81,"targetPort":"adm","appProtocol":"tcp"}]}`
	if string(doc.Spec) != want {
		t.Errorf("spec %s\nwant %s", doc.Spec, want)
	}
	if w := o.Kind.Warnings(o); len(w) != 1 || !strings.Contains(w[0], `"A_B"`) {
		t.Errorf("warnings %q", w)
	}
	withStatus, err := o.Kind.New(o.Meta, o.Spec, &kind.MeshServiceStatus{VIPs: []kind.VIP{{IP: "241.0.0.0"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(withStatus.JSON(), &doc); err != nil {
		t.Fatal(err)
	}
	if want := `{"vips":[{"ip":"241.0.0.0"}],"tls":{},"dataplaneProxies":{}}`; string(doc.Status) != want {
		t.Errorf("status %s, want %s", doc.Status, want)
	}
}

func TestAdmit(t *testing.T) {
	site := resource.Site{Zone: "east", Env: resource.EnvUniversal}
	admit := func(o, old *resource.Object) *resource.Object {
		t.Helper()
		a, err := site.Admit(o, old)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	sent := decode(t, kind.Dataplane, `{"mesh": "m", "name": "zp", "labels": {"kuma.io/proxy-type": "sidecar", "kuma.io/listener-zoneegress": "enabled"},
		"networking": {"address": "10.0.0.1", "listeners": [{"type": "ZoneIngress", "address": "10.0.0.1", "port": 1}],
		"inbound": [{"port": 80, "serviceProbe": {"tcp": {}}}, {"port": 81}]}}`)
	made := admit(sent, nil)
	l := made.Labels
	if l[resource.LabelZoneIngress] != "enabled" || l[resource.LabelZone] != "east" || l[resource.LabelOrigin] != "zone" {
		t.Errorf("labels %v", l)
	}
	for _, gone := range []string{resource.LabelProxyType, resource.LabelZoneEgress} {
		if _, ok := l[gone]; ok {
			t.Errorf("label %s remains", gone)
		}
	}
	in := kind.NetworkingOf(made).GetInbound()
	if kind.InboundReady(in[0]) || kind.InboundCountsReady(in[0]) || !kind.InboundReady(in[1]) {
		t.Errorf("a new inbound with a probe must wait for it, others not: %v", in)
	}
	if !kind.InboundReady(kind.NetworkingOf(sent).GetInbound()[0]) {
		t.Error("the object that was sent was modified")
	}
	if again := admit(sent, made); !kind.InboundReady(kind.NetworkingOf(again).GetInbound()[0]) {
		t.Error("an update says itself what is ready")
	}
	gw := admit(decode(t, kind.Dataplane, `{"mesh": "m", "name": "gw", "networking": {"address": "10.0.0.1", "gateway": {}}}`), nil)
	if got := kind.NetworkingOf(gw).GetGateway().GetTags()["kuma.io/zone"]; got != "east" {
		t.Errorf("zone tag of a gateway is %q", got)
	}

	svc := decode(t, kind.MeshService, `{"mesh": "m", "name": "web", "spec": {}}`)
	old, err := svc.Kind.New(svc.Meta, &kind.MeshServiceSpec{State: kind.ServiceAvailable}, &kind.MeshServiceStatus{VIPs: []kind.VIP{{IP: "241.0.0.0"}}})
	if err != nil {
		t.Fatal(err)
	}
	kept := admit(svc, old)
	if resource.SpecOf[kind.MeshServiceSpec](kept).State != kind.ServiceAvailable || len(resource.StatusOf[kind.MeshServiceStatus](kept).VIPs) != 1 {
		t.Errorf("writing a service again lost what the control plane knows: %s", kept.JSON())
	}
}

func TestDataplaneParts(t *testing.T) {
	n := kind.NetworkingOf(decode(t, kind.Dataplane, `{"networking": {"address": "10.0.0.1", "inbound": [
		{"port": 80}, {"port": 81, "name": "adm", "servicePort": 9, "serviceAddress": "10.0.0.2", "address": "10.0.0.3"},
		{"port": 82, "state": "Ignored"}, {"port": 83, "state": "NotReady"}, {"port": 84, "health": {}}, {"port": 85, "state": "Ignored", "health": {}}],
		"listeners": [{"port": 1, "name": "in"}, {"port": 2}]}}`))
	in := n.GetInbound()
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("section", kind.InboundSection(in[0]), "80")
	check("named section", kind.InboundSection(in[1]), "adm")
	check("listener section", kind.ListenerSection(n.GetListeners()[0]), "in")
	check("unnamed listener", kind.ListenerSection(n.GetListeners()[1]), "2")
	check("address", kind.InboundAddress(n, in[0]), "10.0.0.1")
	check("own address", kind.InboundAddress(n, in[1]), "10.0.0.3")
	check("service port", kind.ServicePort(in[0]), uint32(80))
	check("own service port", kind.ServicePort(in[1]), uint32(9))
	check("service address", kind.ServiceAddress(n, in[0], false), "127.0.0.1")
	check("transparent service address", kind.ServiceAddress(n, in[0], true), "10.0.0.1")
	check("own service address", kind.ServiceAddress(n, in[1], true), "10.0.0.2")
	check("serves", kind.ServesInbounds(n), true)
	check("serves without networking", kind.ServesInbounds(nil), false)
	var ready, counts []uint32
	for _, i := range in {
		if kind.InboundReady(i) {
			ready = append(ready, i.GetPort())
		}
		if kind.InboundCountsReady(i) {
			counts = append(counts, i.GetPort())
		}
	}
	if !slices.Equal(ready, []uint32{80, 81}) || !slices.Equal(counts, []uint32{80, 81, 82}) {
		t.Errorf("ready %v, counted ready %v", ready, counts)
	}
}

func TestPortServedBy(t *testing.T) {
	in := &kind.DataplaneInbound{Port: 8080, Name: "web"}
	for name, c := range map[string]struct {
		target *kind.IntOrString
		want   bool
	}{
		"none": {nil, false}, "number": {&kind.IntOrString{Int: 8080}, true}, "other number": {&kind.IntOrString{Int: 80}, false},
		"name": {&kind.IntOrString{Str: "web"}, true}, "number as name": {&kind.IntOrString{Str: "8080"}, false}, "zero": {&kind.IntOrString{}, false},
	} {
		if got := (&kind.MeshServicePort{Port: 80, TargetPort: c.target}).ServedBy(in); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for in, want := range map[string]string{"": "tcp", "HTTP": "http", "mysql": "tcp", "grpc": "grpc"} {
		if got := kind.ServiceProtocol(in); got != want {
			t.Errorf("service protocol of %q is %q", in, got)
		}
	}
}

func TestOnline(t *testing.T) {
	now := timestamppb.Now()
	open, closed := &mesh_proto.DiscoverySubscription{ConnectTime: now}, &mesh_proto.DiscoverySubscription{ConnectTime: now, DisconnectTime: now}
	for want, subs := range map[bool][]*mesh_proto.DiscoverySubscription{true: {closed, open}, false: {closed, {}}} {
		if got := kind.DataplaneOnline(&mesh_proto.DataplaneInsight{Subscriptions: subs}); got != want {
			t.Errorf("%v: online %v", subs, got)
		}
	}
	if kind.DataplaneOnline(nil) || kind.ZoneOnline(nil) {
		t.Error("who has no insight is offline")
	}
	if !kind.ZoneEnabled(&system_proto.Zone{}) || kind.ZoneEnabled(&system_proto.Zone{Enabled: wrapperspb.Bool(false)}) {
		t.Error("a zone is enabled unless it says otherwise")
	}
	if kind.WantsInitialPolicy(&mesh_proto.Mesh{SkipCreatingInitialPolicies: []string{"*"}}, "MeshTimeout") ||
		kind.WantsInitialPolicy(&mesh_proto.Mesh{SkipCreatingInitialPolicies: []string{"MeshTimeout"}}, "MeshTimeout") ||
		!kind.WantsInitialPolicy(&mesh_proto.Mesh{SkipCreatingInitialPolicies: []string{"MeshRetry"}}, "MeshTimeout") {
		t.Error("skipCreatingInitialPolicies is not honoured")
	}
}
