package kind_test

import (
	"slices"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
)

func TestContainerPatch(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want []string
	}{
		"empty": {`{}`, nil},
		"all operations": {`{"sidecarPatch": [
			{"op": "add", "path": "/securityContext/privileged", "value": "true"},
			{"op": "replace", "path": "/image", "value": "\"x\""},
			{"op": "remove", "path": "/resources"},
			{"op": "move", "path": "/a", "from": "/b"}],
			"initPatch": [{"op": "copy", "path": "/a", "from": "/b"}]}`, nil},
		"unknown operation": {`{"sidecarPatch": [{"op": "test", "path": "/a"}]}`, []string{"spec.sidecarPatch[0].op"}},
		"no path":           {`{"initPatch": [{"op": "remove"}]}`, []string{"spec.initPatch[0].path"}},
		"no pointer":        {`{"initPatch": [{"op": "remove", "path": "a"}]}`, []string{"spec.initPatch[0].path"}},
		"no value":          {`{"sidecarPatch": [{"op": "add", "path": "/a"}]}`, []string{"spec.sidecarPatch[0].value"}},
		"no JSON":           {`{"sidecarPatch": [{"op": "add", "path": "/a", "value": "plain"}]}`, []string{"spec.sidecarPatch[0].value"}},
		"no source":         {`{"sidecarPatch": [{"op": "move", "path": "/a"}, {"op": "copy", "path": "/a", "from": "b"}]}`, []string{"spec.sidecarPatch[0].from", "spec.sidecarPatch[1].from"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := fields(t, kind.ContainerPatch, `{"type": "ContainerPatch", "name": "p", "spec": `+c.spec+`}`)
			if !slices.Equal(got, c.want) {
				t.Errorf("fields %v, want %v", got, c.want)
			}
		})
	}
}
