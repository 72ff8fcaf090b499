package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// get answers one resource.
func (a *API) get(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := a.moment(r, k.Type, kind.Mesh)
		if err != nil {
			return err
		}
		if err := a.mayRead(s, r, k); err != nil {
			return err
		}
		return a.answerObject(w, r, s, s.Get(idOf(k, r)))
	}
}

// mayRead checks that the mesh of the path exists and that the caller may read
// resources of the kind.
func (a *API) mayRead(s rows, r *http.Request, k *resource.Kind) error {
	return a.may(auth.Read, s, r, k)
}

// may checks that the mesh of the path exists and that the caller has access to
// resources of the kind in it. Whom roles limit to some meshes does not learn
// which others there are: what a path says is decided first, and refused (403)
// whether or not there is something; what shows only in the resource, which is
// its zone, hides it (404) as if it were not there.
func (a *API) may(v auth.Verb, s rows, r *http.Request, k *resource.Kind) error {
	missing := meshExists(s, k, r)
	if missing != nil && len(a.Access.Roles) == 0 {
		return missing
	}
	t := auth.TargetNamed(k, r.PathValue("mesh"), r.PathValue("name"))
	if err := a.Access.Object(auth.UserFrom(r.Context()), v, t); err != nil {
		return err
	}
	return missing
}

// idOf is the resource that a path names.
func idOf(k *resource.Kind, r *http.Request) resource.ID {
	id := resource.ID{Type: k.Type, Name: r.PathValue("name")}
	if k.Scope == resource.ScopeMesh {
		id.Mesh = r.PathValue("mesh")
	}
	return id
}

// meshExists refuses paths below a mesh that is not there.
func meshExists(s rows, k *resource.Kind, r *http.Request) error {
	mesh := r.PathValue("mesh")
	if k.Scope != resource.ScopeMesh || mesh == "" {
		return nil
	}
	if s.Get(resource.ID{Type: kind.Mesh, Name: mesh}) == nil {
		p := notFound(titleMesh)
		p.Detail += fmt.Sprintf(": mesh %q does not exist; create it first", mesh)
		return p
	}
	return nil
}

// answerObject writes a resource, nil if there is none, in the format that the
// query asks for.
func (a *API) answerObject(w http.ResponseWriter, r *http.Request, s rows, o *resource.Object) error {
	if !a.shows(r, o) {
		return notFound(titleGet)
	}
	noteRevision(w, s.Revision())
	etag := etagOf(o)
	w.Header().Set("ETag", etag)
	if match := r.Header.Get("If-None-Match"); match != "" && matchesETag(match, o) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	q := r.URL.Query()
	switch format := q.Get("format"); format {
	case "", "universal":
		if o.Type == kind.ZoneInsight {
			writeIndented(w, a.zoneInsightJSON(o))
		} else {
			writeIndented(w, o.JSON())
		}
	case "k8s", "kubernetes":
		namespace := q.Get("namespace")
		if namespace == "" {
			namespace = systemNamespace
		}
		writeJSON(w, http.StatusOK, kubernetesObject(o, namespace))
	default:
		return invalid(titleGet, resource.FieldErrors{{Field: "format", Reason: "must be one of universal, k8s, kubernetes"}})
	}
	return nil
}

// etagOf is the version of a resource as a strong validator.
func etagOf(o *resource.Object) string { return `"` + strconv.FormatUint(o.Version, 10) + `"` }

// matchesETag evaluates If-Match or If-None-Match; o is nil when nothing exists.
func matchesETag(header string, o *resource.Object) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimSpace(tag)
		if o != nil && (tag == "*" || strings.TrimPrefix(tag, "W/") == etagOf(o)) {
			return true
		}
	}
	return false
}

// list answers a page of the resources of a kind.
func (a *API) list(k *resource.Kind) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		s, err := a.moment(r, k.Type, kind.Mesh)
		if err != nil {
			return err
		}
		if err := a.mayRead(s, r, k); err != nil {
			return err
		}
		item := (*resource.Object).JSON
		if k.Type == kind.ZoneInsight {
			item = a.zoneInsightJSON
		}
		return a.answerPage(w, r, s, k, item)
	}
}

// answerPage writes the resources that the query selects, each as item has it.
func (a *API) answerPage(w http.ResponseWriter, r *http.Request, s rows, k *resource.Kind, item func(*resource.Object) []byte) error {
	q := r.URL.Query()
	p, err := parsePage(q)
	if q.Get("size") == "" && fromKumactl(r) {
		p.size = kumactlPage
	}
	if err != nil {
		return err
	}
	_, route, _ := strings.Cut(r.Pattern, "/")
	f, err := parseFilter(q, k, "/"+route)
	if err != nil {
		return err
	}
	mesh := r.PathValue("mesh")
	if k.AdminOnly { // what Sees leaves out
		s = visible{s, func(o *resource.Object) bool { return a.mayReadThis(r, o) == nil }}
	} else {
		s = a.visibleTo(r, s)
	}
	items, total := selected(s.List(k.Type, mesh), s.Count(k.Type, mesh), &f, p)
	noteRevision(w, s.Revision())
	w.Header().Set("Content-Type", "application/json")
	writeList(w, items, total, a.next(r, p, total), item)
	return nil
}

// selected returns one page and how many resources all pages have.
func selected(all iter.Seq[*resource.Object], count int, f *filter, p page) (items []*resource.Object, total int) {
	everything := f.empty()
	for o := range all {
		if !everything && !f.selects(o) {
			continue
		}
		if total >= p.offset && len(items) < p.size {
			items = append(items, o)
		} else if everything && len(items) == p.size {
			return items, count
		}
		total++
	}
	return items, total
}

// writeList writes a list with one item a line. Items are the bytes that each
// resource keeps anyway: a list of a thousand costs no encoding.
func writeList(w http.ResponseWriter, items []*resource.Object, total int, next string, item func(*resource.Object) []byte) {
	var b bytes.Buffer
	encoded := make([][]byte, len(items))
	size := 128 + len(next)
	for i, o := range items {
		encoded[i] = item(o)
		size += len(encoded[i]) + 2
	}
	b.Grow(size)
	fmt.Fprintf(&b, "{\"total\": %d, \"items\": [", total)
	for i, e := range encoded {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(e)
	}
	if len(encoded) > 0 {
		b.WriteByte('\n')
	}
	b.WriteString(`], "next": `)
	if next == "" {
		b.WriteString("null")
	} else {
		text := bytes.Buffer{}
		e := json.NewEncoder(&text)
		e.SetEscapeHTML(false)
		_ = e.Encode(next)
		b.Write(bytes.TrimSpace(text.Bytes()))
	}
	b.WriteString("}\n")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes())
}

// writeIndented answers with a document that is one line.
func writeIndented(w http.ResponseWriter, compact []byte) {
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", " "); err != nil {
		b.Reset()
		b.Write(compact)
	}
	b.WriteByte('\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes())
}

func noteRevision(w http.ResponseWriter, rev store.Revision) {
	w.Header().Set(revisionHeader, strconv.FormatUint(uint64(rev), 10))
}

// await waits until the view has a revision, but not for ever.
func (a *API) await(r *http.Request, rev store.Revision) error {
	ctx, cancel := context.WithTimeout(r.Context(), maxRevisionWait)
	defer cancel()
	_, err := a.View.Wait(ctx, rev)
	if errors.Is(err, context.DeadlineExceeded) {
		return busy(fmt.Sprintf("revision %d is not visible here yet; the newest is %d", rev, a.View.Snapshot().Revision()))
	}
	return err
}
