package rest

import (
	"net/http"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/kind"
)

// nothing answers where no route leads. A slash too many at the end is none;
// tools append one.
func (a *API) nothing(routes http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if path := strings.TrimRight(r.URL.Path, "/"); path != "" && path != r.URL.Path {
			again := r.Clone(r.Context())
			again.URL.Path, again.URL.RawPath = path, strings.TrimRight(r.URL.RawPath, "/")
			routes.ServeHTTP(w, again)
			return
		}
		if parts := strings.Split(r.URL.Path, "/"); len(parts) == 6 && parts[1] == "meshes" && parts[5] == "_hostnames" {
			a.fail(w, r, noHostnames(parts[3]))
			return
		}
		a.fail(w, r, &problem{http.StatusNotFound, "Not Found", "there is nothing at " + r.URL.Path + "; GET /_resources lists the paths of resources", nil})
	}
}

// noHostnames refuses to name what is no destination.
func noHostnames(plural string) *problem {
	return badRequest("%s have no host names: only %s, %s and %s do", plural, kind.MeshService, kind.MeshExternalService, kind.MeshMultiZoneService)
}
