package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/diff"
)

func TestTemplates(t *testing.T) {
	const doc = `{"name":"x","n":12345678901234567,"labels":{"a.b/c":"v"},"items":[{"k":"1"},{"k":"2"},{}],"ok":true,"none":null}`
	for _, c := range []struct{ template, want string }{
		{"{.name}", "x"},
		{"{$.name}", "x"},
		{"{.n}", "12345678901234567"}, // as it is written
		{"{.labels['a.b/c']}", "v"},
		{`{.labels["a.b/c"]}`, "v"},
		{"{.items[*].k}", "1 2"},
		{"{.items[-1]}", "{}"},
		{"{.items[0].k}-{.items[1].k}", "1-2"},
		{"{.items[7].k}", ""},
		{"{.absent.more}", ""},
		{"{.none}", "null"},
		{"{.labels}", `{"a.b/c":"v"}`},
		{"{.labels.*}", "v"},
		{`{range .items[*]}<{.k}>{"\t"}{end}.`, "<1>\t<2>\t<>\t."},
		{"{range .items[*]}{range .k}{@}{end}{end}", "12"},
		{"name: {.name}", "name: x"},
	} {
		tpl, err := parseTemplate(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		v, err := decodeNumbers([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		tpl.render(&b, v)
		if b.String() != c.want {
			t.Errorf("%s: %q, want %q", c.template, b.String(), c.want)
		}
	}
	for _, wrong := range []string{"{", "{.a", "{a}", "{.a[}", "{.a[x]}", "{end}", "{range .a}", "{..}", `{"x}`} {
		if _, err := parseTemplate(wrong); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}

func TestDifferencesWithoutTerminal(t *testing.T) {
	for _, c := range []struct{ is, be, want string }{
		{"a\nb\nc\n", "a\nb\nd\n", "--- is\n+++ be\n@@ -1,3 +1,3 @@\n a\n b\n-c\n+d\n"},
		{"", "x\n", "--- is\n+++ be\n@@ -0,0 +1,1 @@\n+x\n"},
		{"-- x\n", "++ y\n", "--- is\n+++ be\n@@ -1,1 +1,1 @@\n--- x\n+++ y\n"},
	} {
		var out bytes.Buffer
		a := &app{out: &out}
		a.printDiff(diff.Diff("is", []byte(c.is), "be", []byte(c.be)))
		if out.String() != c.want {
			t.Errorf("%q → %q:\n%s\nwant\n%s", c.is, c.be, &out, c.want)
		}
	}
}

func TestTablesWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out}
	if err := a.printTable([]string{"NAME", "STATUS", "AGE"}, [][]string{{"ä", "Online", "1s"}, {"long-name", "Offline", "2s"}}); err != nil {
		t.Fatal(err)
	}
	want := "NAME        STATUS    AGE\nä           Online    1s\nlong-name   Offline   2s\n"
	if out.String() != want {
		t.Errorf("%q\nwant\n%q", out.String(), want)
	}
}

func TestMeant(t *testing.T) {
	kinds := []kindInfo{{Name: "MeshTimeout", Path: "meshtimeouts", Singular: "meshtimeout", ShortName: "mt"}}
	if got := meant(kinds, "meshtimout"); !strings.Contains(got, "meshtimeout") {
		t.Errorf("suggests %q", got)
	}
	if got := meant(kinds, "zones"); got != "" {
		t.Errorf("suggests %q for something else", got)
	}
	for _, word := range []string{"meshtimeouts", "mesh-timeout", "mt", "meshtimeout"} {
		if !kinds[0].named(word) {
			t.Errorf("%s is not understood", word)
		}
	}
}

func TestWatchSaysWhatChanged(t *testing.T) {
	var out bytes.Buffer
	w := &watcher{app: &app{out: &out, output: "name"}, kind: kindInfo{Path: "meshes"}, seen: map[string][]byte{}}
	for _, state := range [][]string{{`{"name":"a"}`, `{"name":"b"}`}, {`{"name":"a","x":1}`, `{"name":"b"}`}, {`{"name":"b"}`}, {`{"name":"b"}`}} {
		now := map[string][]byte{}
		for _, doc := range state {
			now[doc[:len(`{"name":"a"`)]] = []byte(doc)
		}
		if err := w.update(now); err != nil {
			t.Fatal(err)
		}
	}
	if want := "ADDED meshes/a\nADDED meshes/b\nMODIFIED meshes/a\nDELETED meshes/a\n"; out.String() != want {
		t.Errorf("%q", out.String())
	}
}
