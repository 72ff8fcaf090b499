package cli

import (
	"context"
	"encoding/json"
	"net/http"

	api "github.com/atoll-mesh/atoll/api/client"
)

// api is the generated client over this one. Seen, if given, gets each answer.
func (c *client) api(seen *answer) *api.Client {
	return &api.Client{Send: func(ctx context.Context, method, path string, header http.Header, body []byte) ([]byte, error) {
		got, err := c.call(ctx, method, path, body, header)
		if seen != nil {
			*seen = got
		}
		return got.body, err
	}}
}

// raw makes one call of the generated client and returns its answer as it came:
// documents are shown with what a newer server may have added.
func raw[T any](c *client, call func(*api.Client) (T, error)) (answer, error) {
	var got answer
	_, err := call(c.api(&got))
	return got, err
}

// read makes one call and decodes its answer into what is shown of it.
func read[T any](c *client, into any, call func(*api.Client) (T, error)) error {
	got, err := raw(c, call)
	if err != nil {
		return err
	}
	return json.Unmarshal(got.body, into)
}

// get reads a resource.
func (t target) get(ctx context.Context, c *client, options ...api.Option) (answer, error) {
	return raw(c, func(x *api.Client) (json.RawMessage, error) {
		if t.kind.Scope == "Mesh" {
			return x.GetMeshesMeshKindName(ctx, t.mesh, t.kind.Path, t.name, options...)
		}
		return x.GetKindName(ctx, t.kind.Path, t.name, options...)
	})
}

// put creates or replaces a resource.
func (t target) put(ctx context.Context, c *client, body []byte, options ...api.Option) ([]byte, error) {
	if t.kind.Scope == "Mesh" {
		return c.api(nil).PutMeshesMeshKindName(ctx, t.mesh, t.kind.Path, t.name, body, options...)
	}
	return c.api(nil).PutKindName(ctx, t.kind.Path, t.name, body, options...)
}

// remove deletes a resource.
func (t target) remove(ctx context.Context, c *client, options ...api.Option) error {
	var err error
	if t.kind.Scope == "Mesh" {
		_, err = c.api(nil).DeleteMeshesMeshKindName(ctx, t.mesh, t.kind.Path, t.name, options...)
	} else {
		_, err = c.api(nil).DeleteKindName(ctx, t.kind.Path, t.name, options...)
	}
	return err
}

// listing reads one page of some list.
type listing func(ctx context.Context, x *api.Client, options ...api.Option) (api.List, error)

// in lists the resources of a mesh; of all meshes if it is empty.
func (k kindInfo) in(mesh string) listing {
	return func(ctx context.Context, x *api.Client, options ...api.Option) (api.List, error) {
		if k.Scope == "Mesh" && mesh != "" {
			return x.GetMeshesMeshKind(ctx, mesh, k.Path, options...)
		}
		return x.GetKind(ctx, k.Path, options...)
	}
}

// kinds by their paths, where which kind it is does not depend on the server.
const (
	meshesPath     = "meshes"
	zonesPath      = "zones"
	dataplanesPath = "dataplanes"
	insightsPath   = "mesh-insights"
)

// overviewsIn lists resources of a kind with what their insights say.
func overviewsIn(mesh, kind string) listing {
	return func(ctx context.Context, x *api.Client, options ...api.Option) (api.List, error) {
		if mesh != "" {
			return x.GetMeshesMeshKindItsOverview(ctx, mesh, kind, options...)
		}
		return x.GetKindItsOverview(ctx, kind, options...)
	}
}

// selectedBy lists the Dataplanes that a policy selects.
func selectedBy(t target) listing {
	return func(ctx context.Context, x *api.Client, options ...api.Option) (api.List, error) {
		return x.GetMeshesMeshKindNameItsResourcesDataplanes(ctx, t.mesh, t.kind.Path, t.name, options...)
	}
}

// index is what a control plane says of itself.
type index struct{ Product, Version, AtollVersion string }

// whoAnswers asks which control plane there is. Into is left as it is by what does
// not answer like one.
func (c *client) whoAnswers(ctx context.Context, into *index) error {
	return read(c, into, func(x *api.Client) (api.GetAnswer, error) { return x.Get(ctx) })
}
