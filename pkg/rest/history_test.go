package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/store"
)

type historyPage struct {
	Items []changeBody
	Next  *string
}

func (w *world) history(query string) historyPage {
	w.t.Helper()
	a := w.get("/history" + query)
	w.wantStatus(a, 200)
	var p historyPage
	if err := json.Unmarshal([]byte(a.Body), &p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (p historyPage) String() string {
	var b strings.Builder
	for _, c := range p.Items {
		fmt.Fprintf(&b, "%d %s %s %s/%s; ", c.Revision, c.Operation, c.Type, c.Mesh, c.Name)
	}
	return b.String()
}

const pathT1 = "/meshes/default/meshtimeouts/t1"

func timeoutDoc(seconds int) string {
	return fmt.Sprintf(`{"type":"MeshTimeout","mesh":"default","name":"t1","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"%ds"}}]}}`, seconds)
}

func secretBody(name, data string) string {
	return fmt.Sprintf(`{"type":"Secret","mesh":"default","name":%q,"data":%q}`, name, data)
}

// historyWorld has: 1 mesh, 2 timeout created, 3 changed, 4 secret, 5 deleted.
func historyWorld(t testing.TB, change ...func(*Config)) *world {
	w := newWorld(t, standalone, change...)
	w.wantStatus(w.put(pathT1, timeoutDoc(1)), 201)
	w.wantStatus(w.put(pathT1, timeoutDoc(2)), 200)
	w.wantStatus(w.put("/meshes/default/secrets/s1", secretBody("s1", "c2VjcmV0dmFsdWU=")), 201)
	w.wantStatus(w.del(pathT1), 200)
	if w.revision() != 5 {
		t.Fatalf("revision %d", w.revision())
	}
	return w
}

func TestHistory(t *testing.T) {
	w := historyWorld(t)
	const all = "5 delete MeshTimeout default/t1; 4 create Secret default/s1; 3 update MeshTimeout default/t1; 2 create MeshTimeout default/t1; 1 create Mesh /default; "
	p := w.history("")
	if p.String() != all || p.Next != nil {
		t.Errorf("%s %v", p, p.Next)
	}
	if p.Items[0].Author != "mesh-system:admin" || p.Items[4].Author != "test" || p.Items[0].Time.IsZero() {
		t.Errorf("%+v", p.Items)
	}
	for query, want := range map[string]string{
		"?kind=Secret":                  "4 create Secret default/s1; ",
		"?kind=meshtimeouts,Mesh":       "5 delete MeshTimeout default/t1; 3 update MeshTimeout default/t1; 2 create MeshTimeout default/t1; 1 create Mesh /default; ",
		"?mesh=default&name=s1":         "4 create Secret default/s1; ",
		"?author=test":                  "1 create Mesh /default; ",
		"?mesh=none":                    "",
		"?until=2000-01-01T00:00:00Z":   "",
		"?since=2000-01-01T00:00:00Z":   all,
		"?size=2":                       "5 delete MeshTimeout default/t1; 4 create Secret default/s1; ",
		"?size=1&offset=3":              "3 update MeshTimeout default/t1; ",
		"?offset=2.1":                   "1 create Mesh /default; ",
		"?since=2200-01-01T00:00:00Z":   "",
		"?kind=MeshTimeout&offset=4999": "5 delete MeshTimeout default/t1; 3 update MeshTimeout default/t1; 2 create MeshTimeout default/t1; ",
	} {
		if got := w.history(query).String(); got != want {
			t.Errorf("%s: %s", query, got)
		}
	}
	for _, query := range []string{"?kind=Nope", "?since=yesterday", "?size=0", "?offset=x", "?offset=1.x"} {
		w.wantStatus(w.get("/history"+query), 400)
	}
	// Pages put together are the whole.
	got := ""
	for next := "/history?size=2"; next != ""; {
		u, err := url.Parse(next)
		if err != nil {
			t.Fatal(err)
		}
		p := w.history("?" + u.RawQuery)
		got += p.String()
		if next = ""; p.Next != nil {
			next = *p.Next
		}
	}
	if got != all {
		t.Errorf("pages: %s", got)
	}
	for _, path := range []string{"/history", "/history/4", "/history?kind=Secret"} {
		if a := w.get(path); strings.Contains(a.Body, "c2VjcmV0") || strings.Contains(a.Body, "secretvalue") {
			t.Errorf("%s shows the secret: %s", path, a.Body)
		}
	}
	if err := w.store.Compact(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if got := w.history("").String(); got != "5 delete MeshTimeout default/t1; 4 create Secret default/s1; " {
		t.Errorf("after compaction: %s", got)
	}
	w.wantStatus(w.get("/history/2"), 410)
}

func TestPagesOfALargeCommit(t *testing.T) {
	w := newWorld(t, standalone)
	var ops []store.Op
	for i := range 25 {
		body := fmt.Sprintf(`{"type":"Mesh","name":"m%d"}`, i)
		ops = append(ops, store.Put(w.object("Mesh", "", fmt.Sprintf("m%d", i), body), store.Any, "x"))
	}
	rev, err := w.store.Write(t.Context(), ops...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.view.Wait(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	query := "?size=10"
	for {
		p := w.history(query)
		for _, c := range p.Items {
			if seen[c.Name] {
				t.Errorf("%s twice", c.Name)
			}
			seen[c.Name] = true
		}
		if p.Next == nil {
			break
		}
		u, _ := url.Parse(*p.Next)
		query = "?" + u.RawQuery
	}
	if len(seen) != 26 {
		t.Errorf("%d changes", len(seen))
	}
}

func TestRevisionShowsWhatItDid(t *testing.T) {
	w := historyWorld(t)
	a := w.get("/history/3")
	w.wantStatus(a, 200)
	var d struct{ Changes []detailBody }
	if err := json.Unmarshal([]byte(a.Body), &d); err != nil {
		t.Fatal(err)
	}
	c := d.Changes[0]
	if len(d.Changes) != 1 || !c.BeforeKnown || len(c.Diff) != 1 || c.Diff[0].Path != "/spec/to/0/default/connectionTimeout" ||
		!strings.Contains(string(c.Before), `"1s"`) || !strings.Contains(string(c.After), `"2s"`) {
		t.Errorf("%s", a.Body)
	}
	if a := w.get("/history/5"); !strings.Contains(a.Body, `"2s"`) || !strings.Contains(a.Body, `"delete"`) {
		t.Errorf("%s", a.Body)
	}
	if a := w.get("/history/4"); !strings.Contains(a.Body, `"hidden": true`) {
		t.Errorf("%s", a.Body)
	}
	for _, path := range []string{"/history/0", "/history/6", "/history/x", "/history/3?kind=Secret"} {
		w.wantStatus(w.get(path), 404)
	}
	if err := w.store.Compact(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if a := w.get("/history/3"); !strings.Contains(a.Body, `"beforeKnown": false`) {
		t.Errorf("%s", a.Body)
	}
}

func (w *world) revert(rev any, query string) answer {
	w.t.Helper()
	return w.do(request{method: "POST", path: fmt.Sprintf("/history/%v/revert%s", rev, query)})
}

func TestRevert(t *testing.T) {
	w := historyWorld(t)
	timeout := func(want string) {
		t.Helper()
		a := w.get(pathT1)
		if want == "" {
			w.wantStatus(a, 404)
		} else if !strings.Contains(a.Body, want) {
			t.Errorf("%s, want %s", a.Body, want)
		}
	}
	w.wantStatus(w.revert(3, ""), 409) // deleted since
	if a := w.revert(5, "?dryRun=true"); a.Status != 200 || !strings.Contains(a.Body, `"create"`) {
		t.Errorf("%s", a.Body)
	}
	timeout("")
	a := w.revert(5, "") // 6
	w.wantStatus(a, 200)
	timeout(`"2s"`)
	if a.Header.Get("Atoll-Revision") != "6" {
		t.Errorf("revision %s", a.Header)
	}
	w.wantStatus(w.revert(5, ""), 409)
	w.wantStatus(w.revert(3, ""), 409)              // it is of revision 6 now
	w.wantStatus(w.put(pathT1, timeoutDoc(3)), 200) // 7
	w.wantStatus(w.revert(7, ""), 200)              // 8
	timeout(`"2s"`)
	w.wantStatus(w.revert(8, ""), 200) // and back
	timeout(`"3s"`)
	w.wantStatus(w.revert(6, ""), 409)
	// A revert of a creation deletes; of a secret shows nothing.
	a = w.revert(4, "")
	w.wantStatus(a, 200)
	if strings.Contains(a.Body, "c2Vj") {
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(w.get("/meshes/default/secrets/s1"), 404)
	w.wantStatus(w.revert(10, ""), 200)
	if a := w.get("/meshes/default/secrets/s1"); !strings.Contains(a.Body, "c2VjcmV0dmFsdWU=") {
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(w.revert(99, ""), 404)
	if a := w.revert(1, ""); a.Status != 409 || !strings.Contains(a.Body, "in use") { // things are in the mesh
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(w.revert(11, "?kind=Mesh"), 400) // nothing left of it
	head := w.revision()
	if err := w.store.Compact(t.Context(), head-1); err != nil {
		t.Fatal(err)
	}
	w.wantStatus(w.revert(7, ""), 410)
}

// A mesh that was deleted with all that was in it comes back whole.
func TestRevertDeletedMesh(t *testing.T) {
	w := newWorld(t, standalone)
	w.wantStatus(w.put("/meshes/m2", `{"type":"Mesh","name":"m2"}`), 201)
	w.wantStatus(w.put("/meshes/m2/meshtimeouts/t", strings.NewReplacer("t1", "t", "default\",\"name", "m2\",\"name").Replace(timeoutDoc(1))), 201)
	w.wantStatus(w.del("/meshes/m2"), 200)
	deleted := w.revision()
	if a := w.revert(deleted, "?kind=MeshTimeout"); a.Status != 400 || !strings.Contains(a.Body, "mesh does not exist") {
		t.Errorf("%s", a.Body)
	}
	w.wantStatus(w.revert(deleted, ""), 200)
	w.wantStatus(w.get("/meshes/m2/meshtimeouts/t"), 200)
}

func TestRevertOfSeveralAuthors(t *testing.T) {
	w := newWorld(t, standalone)
	rev, err := w.store.Write(t.Context(),
		store.Put(w.object("Mesh", "", "a", `{"type":"Mesh","name":"a"}`), store.Any, "joe"),
		store.Put(w.object("Mesh", "", "b", `{"type":"Mesh","name":"b"}`), store.Any, "jane"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.view.Wait(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	w.wantStatus(w.revert(rev, ""), 400)
	w.wantStatus(w.revert(rev, "?author=joe"), 200)
	w.wantStatus(w.get("/meshes/a"), 404)
	w.wantStatus(w.get("/meshes/b"), 200)
}

func TestReadAtAMoment(t *testing.T) {
	w := historyWorld(t)
	type want struct {
		status int
		text   string
	}
	for path, want := range map[string]want{
		pathT1 + "?at=1":                            {404, ""},
		pathT1 + "?at=2":                            {200, `"1s"`},
		pathT1 + "?at=3":                            {200, `"2s"`},
		pathT1 + "?at=4":                            {200, `"2s"`},
		pathT1 + "?at=5":                            {404, ""},
		pathT1 + "?at=6":                            {400, "not there yet"},
		pathT1 + "?at=soon":                         {400, ""},
		pathT1 + "?at=2200-01-01T00:00:00Z":         {404, ""},
		"/meshtimeouts?at=0":                        {200, `"total": 0`},
		"/meshes?at=0":                              {200, `"total": 0`},
		"/meshes/default/meshtimeouts?at=0":         {404, "Mesh"},
		"/meshes/default/meshtimeouts?at=1":         {200, `"total": 0`},
		"/meshes/default/meshtimeouts?at=4":         {200, `"total": 1`},
		"/meshtimeouts?at=4&name=nope":              {200, `"total": 0`},
		"/meshes/default/dataplanes/_overview?at=3": {200, `"total": 0`},
		"/secrets?at=4":                             {400, "not shown"},
	} {
		a := w.get(path)
		if a.Status != want.status || !strings.Contains(a.Body, want.text) {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	if got := w.get(pathT1 + "?at=2").Header.Get("Atoll-Revision"); got != "2" {
		t.Errorf("revision %s", got)
	}
	if err := w.store.Compact(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	w.wantStatus(w.get(pathT1+"?at=1"), 410)
	w.wantStatus(w.get(pathT1+"?at=2"), 410) // what it was then is in the log no more
	w.wantStatus(w.get(pathT1+"?at=3"), 200)
	w.wantStatus(w.get("/meshes?at=2"), 200)
	w.wantStatus(w.get("/meshtimeouts?at=2000-01-01T00:00:00Z"), 410)
}

// What at shows for every revision is what there was at it.
func TestMomentsAgreeWithWhatWas(t *testing.T) {
	w := newWorld(t, standalone)
	shots := map[store.Revision]string{}
	remember := func() { shots[w.revision()] = w.get("/meshtimeouts").Body }
	for i := range 40 {
		path := fmt.Sprintf("/meshes/default/meshtimeouts/t%d", i*7%5)
		if i%4 == 3 {
			w.del(path)
		} else {
			w.put(path, strings.Replace(timeoutDoc(i+1), "t1", fmt.Sprintf("t%d", i*7%5), 1))
		}
		remember()
	}
	for rev, want := range shots {
		if a := w.get(fmt.Sprintf("/meshtimeouts?at=%d", rev)); a.Body != want {
			t.Errorf("at %d:\n%s\nwas\n%s", rev, a.Body, want)
		}
	}
}
