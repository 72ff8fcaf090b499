package resource

import "testing"

func TestSyncedName(t *testing.T) {
	// Vectors of the KDS reference: (mesh, display name, zone, namespace).
	for _, c := range []struct{ mesh, name, zone, ns, suffix string }{
		{"", "foo", "", "", "zxw6c95d42zfz9cc"},
		{"", "foo", "zone-1", "custom-ns", "696vzv497z4cv4f4"},
		{"default", "backend", "", "", "524cwbwv5vzz94b6"},
		{"default", "backend", "zone-1", "", "d8466458x7574b7b"},
		{"default", "backend", "zone-1", "kuma-demo", "5b4f4xdx76x7zxxx"},
	} {
		m := Meta{ID: ID{Mesh: c.mesh, Name: c.name}, Labels: map[string]string{LabelZone: c.zone, LabelNamespace: c.ns}}
		if got := m.SyncedName(); got != c.name+"-"+c.suffix {
			t.Errorf("%+v: got %s", c, got)
		}
		m.Labels[LabelDisplayName], m.Name = c.name, m.SyncedName()
		if got := m.SyncedName(); got != m.Name {
			t.Errorf("hashing %s again gave %s", m.Name, got)
		}
	}
}

func TestKRI(t *testing.T) {
	k := KRI{Short: "msvc", Mesh: "mesh-1", Zone: "east", Namespace: "ns1", Name: "backend", Section: "http"}
	const s = "kri_msvc_mesh-1_east_ns1_backend_http"
	if k.String() != s {
		t.Errorf("got %s", k)
	}
	back, err := ParseKRI(s)
	if err != nil || back != k {
		t.Errorf("parsed %+v, %v", back, err)
	}
	if _, err := ParseKRI("kri_m_default"); err == nil {
		t.Error("too few parts were accepted")
	}
	if sni, ok := k.SNI(); !ok || sni != "sni.msvc.mesh-1.east.ns1.backend.http" {
		t.Errorf("SNI %s %v", sni, ok)
	}
}
