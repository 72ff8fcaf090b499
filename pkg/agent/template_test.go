package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRender(t *testing.T) {
	vars := map[string]string{"name": "cart-1", "net.address": "192.0.2.1", "amp": "a&b"}
	for _, c := range []struct{ in, want, err string }{
		{"plain", "plain", ""},
		{"name: {{ name }}", "name: cart-1", ""},
		{"{{name}}@{{ net.address }}", "cart-1@192.0.2.1", ""},
		{"{{ amp }} {{{ amp }}} {{& amp }}", "a&b a&b a&b", ""},
		{"a{{! a remark }}b", "ab", ""},
		{"x\n{{ port }} {{ host }} {{ port }}", "", "no value for {{ port }}, {{ host }}; give it with --dataplane-var port=…"},
		{"x\n{{ name", "", "line 2: {{ is not closed"},
		{"{{#each}}", "", "is not supported"},
	} {
		got, err := render(c.in, vars)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestLoadDocument(t *testing.T) {
	const text = "type: Dataplane\nmesh: shop\nname: {{ name }}\nnetworking: {address: 192.0.2.1}\n"
	file := filepath.Join(t.TempDir(), "dp.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"name": "cart-1"}
	for name, c := range map[string]Config{
		"inline":   {Dataplane: text, Vars: vars},
		"file":     {DataplaneFile: file, Vars: vars},
		"standard": {DataplaneFile: "-", Vars: vars},
	} {
		doc, err := loadDocument(&c, strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if doc.mesh != "shop" || doc.name != "cart-1" || !json.Valid(doc.json) {
			t.Errorf("%s: %+v %s", name, doc, doc.json)
		}
	}
	doc, err := loadDocument(&Config{Dataplane: "type: Dataplane\nname: a"}, nil)
	if err != nil || doc.mesh != "default" {
		t.Errorf("without mesh: %+v, %v", doc, err)
	}
	for in, want := range map[string]string{
		"type: Mesh\nname: a":       "must be Dataplane",
		"type: Dataplane\nname: 1":  "name and mesh must be set",
		"type: Dataplane":           "name and mesh must be set",
		"- a":                       "must hold one Dataplane",
		"a: b: c":                   "neither YAML nor JSON",
		"type: Dataplane\nname: ''": "name and mesh must be set",
	} {
		if _, err := loadDocument(&Config{Dataplane: in}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}

func TestCheckNamesEverySetting(t *testing.T) {
	c := Defaults()
	c.ControlPlane.Address = "control-plane:5678"
	c.Token, c.TokenFile = "a", "b"
	c.DrainTime = -1
	c.ReadinessPort = 0
	err := c.check()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"--cp-address", "--dataplane-file", "--dataplane-token", "--drain-time", "ATOLL_READINESS_PORT"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not mention %s", err, want)
		}
	}
	c = Defaults()
	c.Name, c.Dataplane = "a", "type: Dataplane"
	if err := c.check(); err == nil || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("name and document together: %v", err)
	}
}

func TestToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(s string) {
		if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := Config{TokenFile: file}
	write("aa.bb.cc\n")
	if got, err := c.token(); err != nil || got != "aa.bb.cc" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "aa.bb", "aa.b\nb.cc", "aa.bb.cc\naa.bb.cc"} {
		write(bad)
		if _, err := c.token(); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got, err := (&Config{}).token(); err != nil || got != "" {
		t.Errorf("no token: %q, %v", got, err)
	}
}

func TestParseVersion(t *testing.T) {
	v, err := parseVersion("\nbuild/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n")
	if err != nil || v.Version != "1.40.0" || !v.Compatible || v.Build != "9e55/1.40.0/Clean/RELEASE/BoringSSL" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, _ := parseVersion("envoy version: 9e55/1.36.2/Clean/RELEASE/BoringSSL"); v.Compatible {
		t.Error("another minor version counts as compatible")
	}
	if _, err := parseVersion("bash 5"); err == nil {
		t.Error("no version was accepted")
	}
}

func TestReadinessHost(t *testing.T) {
	unix, tcp := newAdmin("unix", "/x.sock"), newAdmin("tcp", "127.0.0.9:9901")
	for _, c := range []struct {
		a         *admin
		dataplane string
		pod       bool
		want      string
	}{
		{unix, "192.0.2.1", false, "127.0.0.1"},
		{unix, "2001:db8::1", false, "::1"},
		{unix, "backend.example", false, "127.0.0.1"},
		{unix, "127.0.3.4", false, "127.0.3.4"},
		{unix, "192.0.2.1", true, "0.0.0.0"},
		{unix, "2001:db8::1", true, "::"},
		{tcp, "192.0.2.1", true, "127.0.0.9"},
	} {
		if got := readinessHost(c.a, c.dataplane, c.pod); got != c.want {
			t.Errorf("%s, pod %v: %s, want %s", c.dataplane, c.pod, got, c.want)
		}
	}
}

func TestPause(t *testing.T) {
	c := Defaults()
	s := &supervisor{c: &c}
	for deaths, want := range map[int]string{0: "0s", 1: "5s", 2: "10s", 4: "40s", 5: "1m0s", 99: "1m0s"} {
		if got := s.pause(deaths, 0).String(); got != want {
			t.Errorf("after %d deaths: %s, want %s", deaths, got, want)
		}
	}
	for ran, want := range map[time.Duration]string{time.Second: "9s", 10 * time.Second: "0s", time.Hour: "0s"} {
		if got := s.pause(2, ran).String(); got != want {
			t.Errorf("after the third death and %s: %s, want %s", ran, got, want)
		}
	}
}
