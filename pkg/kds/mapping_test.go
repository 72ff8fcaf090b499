package kds

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	systemv1 "github.com/atoll-mesh/atoll/api/kuma/system/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

func object(t *testing.T, typ resource.Type, mesh, name string, labels map[string]string, spec any) *resource.Object {
	t.Helper()
	o, err := testKinds().ByType(typ).New(resource.Meta{ID: resource.ID{Type: typ, Mesh: mesh, Name: name}, Labels: labels}, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func unpack(t *testing.T, e *entry) *meshv1.KumaResource {
	t.Helper()
	var env meshv1.KumaResource
	if err := proto.Unmarshal(e.res.Body.Value, &env); err != nil {
		t.Fatal(err)
	}
	return &env
}

func TestSecretsThatLeave(t *testing.T) {
	private, err := auth.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := auth.PublicKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mesh, name   string
		data         []byte
		stock, atoll string // under which name, empty: not at all
	}{
		{"", "envoy-admin-ca", private, "", ""},
		{"", "admin-user-token", private, "", ""},
		{"", "inter-cp-ca", private, "", ""},
		{"", "user-token-revocations", private, "", ""},
		{"", "user-token-signing-key", private, "", ""},
		{"", "user-token-signing-key-2", private, "", ""},
		{"", "zone-token-revocations", []byte("id"), "zone-token-revocations", "zone-token-revocations"},
		{"", "zone-token-signing-key", private, "zone-token-signing-public-key", "zone-token-signing-public-key"},
		{"", "zone-token-signing-key-3", private, "zone-token-signing-public-key-3", "zone-token-signing-public-key-3"},
		{"", "zone-token-signing-key-broken", private, "", ""},
		{"", "zone-token-signing-key-4", []byte("no key"), "", ""},
		{"", "mine", []byte("x"), "mine", "mine"},
		{"m", "dataplane-token-signing-key-m-1", private, "dataplane-token-signing-key-m-1", "dataplane-token-signing-public-key-m-1"},
		{"m", "dataplane-token-signing-key-m", private, "dataplane-token-signing-key-m", "dataplane-token-signing-public-key-m"},
		{"m", "dataplane-token-signing-key-m-x", private, "dataplane-token-signing-key-m-x", ""},
		{"m", "dataplane-token-revocations-m", []byte("id"), "dataplane-token-revocations-m", "dataplane-token-revocations-m"},
		{"m", "cert", []byte("x"), "cert", "cert"},
	} {
		typ := kind.Secret
		if c.mesh == "" {
			typ = kind.GlobalSecret
		}
		o := object(t, typ, c.mesh, c.name, map[string]string{resource.LabelDisplayName: c.name}, &systemv1.Secret{Data: wrapperspb.Bytes(c.data)})
		for atoll, want := range map[bool]string{false: c.stock, true: c.atoll} {
			e, err := toZone(shape{hash: true, atoll: atoll}, nil, slog.New(slog.DiscardHandler))(o)
			if err != nil {
				t.Fatal(err)
			}
			if e == nil {
				if want != "" {
					t.Errorf("%s (atoll %v) does not leave", o.ID, atoll)
				}
				continue
			}
			env := unpack(t, e)
			if env.Meta.Name != want {
				t.Errorf("%s (atoll %v) leaves as %s, want %q", o.ID, atoll, env.Meta.Name, want)
			}
			var s systemv1.Secret
			if err := env.Spec.UnmarshalTo(&s); err != nil {
				t.Fatal(err)
			}
			wantData := c.data
			if strings.Contains(want, "public-key") {
				wantData = public
			}
			if !bytes.Equal(s.Data.Value, wantData) {
				t.Errorf("%s (atoll %v) leaves with %q", o.ID, atoll, s.Data.Value)
			}
		}
	}
}

func TestWhatGoesToZones(t *testing.T) {
	to := func(k string, labels map[string]string) policyTo {
		return policyTo{TargetRef: targetRef{Kind: k, Labels: labels}}
	}
	named := map[string]string{resource.LabelDisplayName: "backend"}
	producer := map[string]string{
		resource.LabelOrigin: "zone", resource.LabelZone: "east", resource.LabelPolicyRole: "producer", resource.LabelNamespace: "ns",
	}
	with := func(m map[string]string, key, value string) map[string]string {
		m = maps.Clone(m)
		m[key] = value
		return m
	}
	for name, c := range map[string]struct {
		o    *resource.Object
		sent bool
		zone string
		need string
	}{
		"own":           {object(t, policyType, "m", "p", nil, &policySpec{}), true, "", ""},
		"own, labelled": {object(t, policyType, "m", "p", map[string]string{resource.LabelOrigin: "global"}, &policySpec{}), true, "", ""},
		"not to sync":   {object(t, policyType, "m", "p", map[string]string{resource.LabelKDSSync: "disabled"}, &policySpec{}), false, "", ""},
		"cluster id":    {object(t, kind.Config, "", kind.ClusterID, nil, &systemv1.Config{}), true, "", ""},
		"other config":  {object(t, kind.Config, "", "cp-catalog", nil, &systemv1.Config{}), false, "", ""},
		"service": {object(t, kind.MeshService, "m", "s", map[string]string{resource.LabelOrigin: "zone", resource.LabelZone: "east"}, &kind.MeshServiceSpec{}),
			true, "east", ""},
		"service of the global": {object(t, kind.MeshService, "m", "s", nil, &kind.MeshServiceSpec{}), false, "", ""},
		"dataplane of a zone":   {object(t, kind.Dataplane, "m", "d", map[string]string{resource.LabelOrigin: "zone", resource.LabelZone: "east"}, &meshv1.Dataplane{}), false, "", ""},
		"system policy of a zone": {object(t, policyType, "m", "p", with(producer, resource.LabelPolicyRole, "system"), &policySpec{To: []policyTo{to("MeshService", named)}}),
			false, "", ""},
		"producer": {object(t, policyType, "m", "p", producer, &policySpec{To: []policyTo{to("MeshService", named), to("MeshHTTPRoute", with(named, resource.LabelNamespace, "ns"))}}),
			true, "east", featureProducerFlow},
		"producer for others": {object(t, policyType, "m", "p", producer, &policySpec{To: []policyTo{to("MeshService", with(named, resource.LabelNamespace, "other"))}}),
			false, "", ""},
		"producer for all":   {object(t, policyType, "m", "p", producer, &policySpec{To: []policyTo{to("Mesh", nil)}}), false, "", ""},
		"producer of no one": {object(t, policyType, "m", "p", producer, &policySpec{}), false, "", ""},
	} {
		e, err := toZone(shape{hash: true}, nil, slog.New(slog.DiscardHandler))(c.o)
		if err != nil || (e != nil) != c.sent {
			t.Errorf("%s: %+v, %v", name, e, err)
			continue
		}
		if e != nil && (e.zone != c.zone || e.feature != c.need) {
			t.Errorf("%s: zone %q, needs %q", name, e.zone, e.feature)
		}
	}
}

func TestNamesAndLabels(t *testing.T) {
	o := object(t, policyType, "default", "backend", map[string]string{"skip/me": "1", "keep/me": "1"}, &policySpec{Value: "v"})
	env := func(m mapping) *meshv1.KumaResource {
		t.Helper()
		e, err := m(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.res.Name; got != wireName(unpack(t, e).Meta.Name, "default") {
			t.Errorf("on the wire %s is called %s", unpack(t, e).Meta.Name, got)
		}
		return unpack(t, e)
	}
	skip := []string{"skip/", ""}
	down := env(toZone(shape{hash: true}, skip, slog.New(slog.DiscardHandler)))
	if want := "backend-524cwbwv5vzz94b6"; down.Meta.Name != want {
		t.Errorf("name %s, want %s", down.Meta.Name, want)
	}
	if want := map[string]string{"keep/me": "1", resource.LabelOrigin: "global", resource.LabelDisplayName: "backend"}; !maps.Equal(down.Meta.Labels, want) {
		t.Errorf("labels %v", down.Meta.Labels)
	}
	if down.Spec.TypeUrl != "" || string(down.Spec.Value) != `{"value":"v"}` || down.Meta.Version != "" {
		t.Errorf("spec %v", down.Spec)
	}
	if raw := env(toZone(shape{}, skip, slog.New(slog.DiscardHandler))); raw.Meta.Name != "backend" || raw.Meta.Labels[resource.LabelDisplayName] != "" {
		t.Errorf("without hash-suffix: %v", raw.Meta)
	}
	up := env(toGlobal("zone-1", skip))
	if want := "backend-d8466458x7574b7b"; up.Meta.Name != want {
		t.Errorf("name %s, want %s", up.Meta.Name, want)
	}
	if want := map[string]string{
		"keep/me": "1", resource.LabelOrigin: "zone", resource.LabelZone: "zone-1", resource.LabelDisplayName: "backend",
	}; !maps.Equal(up.Meta.Labels, want) {
		t.Errorf("labels %v", up.Meta.Labels)
	}

	// Status: reset on the way down, the owner's on the way up.
	k := testKinds().ByType(kind.MeshService)
	svc, err := k.New(resource.Meta{ID: resource.ID{Type: kind.MeshService, Mesh: "m", Name: "s"}, Labels: map[string]string{
		resource.LabelOrigin: "zone", resource.LabelZone: "east",
	}}, &kind.MeshServiceSpec{}, &kind.MeshServiceStatus{VIPs: []kind.VIP{{IP: "241.0.0.1"}}})
	if err != nil {
		t.Fatal(err)
	}
	o = svc
	e, err := toZone(shape{hash: true}, nil, slog.New(slog.DiscardHandler))(o)
	if err != nil || string(unpack(t, e).Status.Value) != `{"tls":{},"dataplaneProxies":{}}` {
		t.Errorf("status to a zone: %v %v", unpack(t, e).Status, err)
	}
	if e, err = toGlobal("east", nil)(o); err != nil || !bytes.Contains(unpack(t, e).Status.Value, []byte("241.0.0.1")) {
		t.Errorf("status to the global: %v %v", unpack(t, e).Status, err)
	}

	o = object(t, kind.DataplaneInsight, "m", "d", nil, &meshv1.DataplaneInsight{Subscriptions: []*meshv1.DiscoverySubscription{{Id: "x", Generation: 7}}})
	e, err = toGlobal("east", nil)(o)
	if err != nil {
		t.Fatal(err)
	}
	var i meshv1.DataplaneInsight
	if err := unpack(t, e).Spec.UnmarshalTo(&i); err != nil || i.Subscriptions[0].Generation != 0 || i.Subscriptions[0].Id != "x" {
		t.Errorf("insight %v %v", &i, err)
	}
	o = object(t, policyType, "m", "p", map[string]string{resource.LabelOrigin: "global"}, &policySpec{})
	if e, err := toGlobal("east", nil)(o); e != nil || err != nil {
		t.Errorf("the global's own policy goes up: %v %v", e, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	kinds := testKinds()
	pack := func(env *meshv1.KumaResource) *anypb.Any {
		b, err := proto.Marshal(env)
		if err != nil {
			t.Fatal(err)
		}
		return &anypb.Any{TypeUrl: envelopeURL, Value: b}
	}
	meta := func(name, mesh string) *meshv1.KumaResource_Meta {
		return &meshv1.KumaResource_Meta{Name: name, Mesh: mesh}
	}
	for name, c := range map[string]struct {
		kind resource.Type
		name string
		body *anypb.Any
	}{
		"no body":         {policyType, "p.m", nil},
		"other envelope":  {policyType, "p.m", &anypb.Any{TypeUrl: "x"}},
		"garbage":         {policyType, "p.m", &anypb.Any{TypeUrl: envelopeURL, Value: []byte("garbage")}},
		"no name":         {policyType, ".m", pack(&meshv1.KumaResource{})},
		"other name":      {policyType, "p.m", pack(&meshv1.KumaResource{Meta: meta("q", "m")})},
		"no mesh":         {policyType, "p.", pack(&meshv1.KumaResource{Meta: meta("p", "")})},
		"mesh of nothing": {kind.Mesh, "p.m", pack(&meshv1.KumaResource{Meta: meta("p", "m")})},
		"other message":   {kind.Mesh, "p.", pack(&meshv1.KumaResource{Meta: meta("p", ""), Spec: &anypb.Any{TypeUrl: "type.googleapis.com/google.protobuf.Any"}})},
	} {
		if _, err := decode(kinds.ByType(c.kind), c.name, c.body); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n, m, err := splitWireName("a.b.mesh"); n != "a.b" || m != "mesh" || err != nil {
		t.Errorf("%s %s %v", n, m, err)
	}
	if n, m, err := splitWireName("default."); n != "default" || m != "" || err != nil {
		t.Errorf("%s %s %v", n, m, err)
	}
	if _, _, err := splitWireName("nodot"); err == nil {
		t.Error("a name without dot was accepted")
	}
}

func FuzzDecode(f *testing.F) {
	k := testKinds().ByType(policyType)
	p := &parcel{kind: k, name: "p", mesh: "m", labels: map[string]string{"a": "b"}, spec: []byte(`{"value":"x"}`)}
	good, err := p.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Name, good.Body.Value)
	f.Add("p.m", []byte{0x0a, 0x00})
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		got, err := decode(k, name, &anypb.Any{TypeUrl: envelopeURL, Value: body})
		if err != nil {
			return
		}
		again, err := got.encode()
		if err != nil {
			return // strings that are no UTF-8 cannot be sent on
		}
		if again.Name != name {
			t.Errorf("decoded %q, encoded %q", name, again.Name)
		}
	})
}

func TestTypesAreInOrder(t *testing.T) {
	got := typesWith(testKinds(), resource.GlobalToZone|resource.AcrossZones)
	if want := []resource.Type{kind.Config, kind.Mesh, kind.GlobalSecret, kind.Secret}; !slices.Equal(got[:4], want) {
		t.Errorf("types start with %v", got[:4])
	}
	if !slices.Contains(got, kind.MeshService) || slices.Contains(got, kind.Dataplane) || slices.Contains(got, kind.Zone) {
		t.Errorf("types %v", got)
	}
}

func TestCompatible(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"3.0.0", "3.2.9", true}, {"3.0.0", "3.3.0", false}, {"3.0.0", "2.0.0", false},
		{"3.0.0", "unknown", true}, {"3.0.0", "0.0.0-preview.vabc", true}, {"3.4.0", "3.2.0-rc1", true},
	} {
		if got := compatible(c.a, c.b); got != c.want {
			t.Errorf("compatible(%s, %s) = %v", c.a, c.b, got)
		}
	}
}
