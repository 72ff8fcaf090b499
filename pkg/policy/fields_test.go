package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// TestFields tells for each field of a merged conf which policy it came from.
func TestFields(t *testing.T) {
	type conf struct {
		Timeout string            `json:"timeout,omitempty"`
		HTTP    map[string]string `json:"http,omitempty"`
		List    []string          `json:"list,omitempty"`
		Append  []string          `json:"appendMore,omitempty"`
		Zero    *struct{}         `json:"zero,omitempty"`
	}
	of := func(name string, index int, c conf) item {
		return item{conf: &c, Origin: Origin{Policy: &resource.Object{Meta: resource.Meta{ID: resource.ID{Name: name}}}, Index: index}}
	}
	items := []item{
		of("weak", 0, conf{Timeout: "1s", HTTP: map[string]string{"a": "1", "b": "1"}, List: []string{"x", "y"}, Append: []string{"m"}}),
		of("strong", 2, conf{HTTP: map[string]string{"b": "2"}, List: []string{"z"}, Append: []string{"n"}, Zero: &struct{}{}}),
	}
	all := Merger[conf]()(*items[0].conf.(*conf), *items[1].conf.(*conf))
	all.HTTP["c"] = "of nobody"
	var got []string
	for _, f := range fieldsOf(&all, items) {
		from := "?"
		if f.Policy != nil {
			from = fmt.Sprintf("%s[%d]", f.Policy.Name, f.Index)
		}
		got = append(got, fmt.Sprintf("%s=%v from %s", f.Path, f.Value, from))
	}
	const want = `appendMore[0]=m from weak[0]
appendMore[1]=n from strong[2]
http.a=1 from weak[0]
http.b=2 from strong[2]
http.c=of nobody from ?
list=[z] from strong[2]
timeout=1s from weak[0]
zero=map[] from strong[2]`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
}
