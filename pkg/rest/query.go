package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Page sizes of lists.
const (
	defaultPage = 100
	maxPage     = 1000
	// kumactlPage is what kumactl gets that asks for no size: its export never asks
	// for a second page, and what is missing there would be lost.
	kumactlPage = 10_000
)

// page is which part of a list is asked for.
type page struct{ size, offset int }

func parsePage(q url.Values) (page, error) {
	p := page{size: defaultPage}
	wrong := func(reason string, args ...any) error {
		return &problem{http.StatusBadRequest, titleList, "Invalid page size", resource.FieldErrors{{Field: "size", Reason: fmt.Sprintf(reason, args...)}}}
	}
	if text := q.Get("size"); text != "" {
		n, err := strconv.Atoi(text)
		switch {
		case err != nil:
			return p, wrong("must be a number, got %q", text)
		case n < 1:
			return p, wrong("must be greater than 0")
		case n > maxPage:
			return p, wrong("must not be greater than %d, got %d", maxPage, n)
		}
		p.size = n
	}
	if text := q.Get("offset"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return p, &problem{http.StatusBadRequest, titleList, fmt.Sprintf("invalid offset %q: use the one in next", text), nil}
		}
		p.offset = n
	}
	return p, nil
}

// filter selects resources of a list. All conditions have to hold.
type filter struct {
	name    string // part of the stored name
	labels  map[string]string
	tags    []tag // Dataplanes only
	gateway string
}

type tag struct{ key, value string }

// parseFilter reads the conditions of a query; route is the path that errors name.
func parseFilter(q url.Values, k *resource.Kind, route string) (filter, error) {
	f := filter{name: q.Get("name")}
	var errs resource.FieldErrors
	for key, values := range q {
		rest, ok := strings.CutPrefix(key, "filter[")
		if !ok {
			continue
		}
		field, after, closed := strings.Cut(rest, "]")
		// Keys of labels contain no bracket, so that the first one ends the field.
		label, isLabel := strings.CutPrefix(field, "labels.")
		if !closed || after != "" || !isLabel || label == "" {
			errs.Add(route+"."+key, "only filter[labels.<key>]=<value> is supported")
			continue
		}
		if f.labels == nil {
			f.labels = map[string]string{}
		}
		f.labels[label] = values[len(values)-1]
	}
	if k.Type == kind.Dataplane {
		for _, text := range q["tag"] {
			if key, value, ok := strings.Cut(text, ":"); ok {
				f.tags = append(f.tags, tag{key, value})
			}
		}
		f.gateway = q.Get("gateway")
		switch f.gateway {
		case "", "true", "false", "delegated":
		default:
			errs.Add(route+".gateway", "must be one of true, false, delegated, got %q", f.gateway)
		}
	}
	return f, invalid(titleList, errs)
}

// empty tells whether everything is selected.
func (f *filter) empty() bool {
	return f.name == "" && len(f.labels) == 0 && len(f.tags) == 0 && f.gateway == ""
}

func (f *filter) selects(o *resource.Object) bool {
	if f.name != "" && !strings.Contains(o.Name, f.name) {
		return false
	}
	if !resource.MatchLabels(f.labels, o.Labels) {
		return false
	}
	if o.Kind.Type != kind.Dataplane || len(f.tags) == 0 && f.gateway == "" {
		return true
	}
	gateway := resource.SpecOf[meshv1.Dataplane](o).GetNetworking().GetGateway()
	if f.gateway != "" && (gateway != nil) != (f.gateway != "false") {
		return false
	}
	set := o.Labels
	if len(gateway.GetTags()) > 0 {
		set = gateway.GetTags()
	}
	for _, t := range f.tags {
		got, ok := set[t.key]
		if !ok || t.value != "*" && !strings.Contains(got, t.value) {
			return false
		}
	}
	return true
}

// next is the address of the page after p, or empty when p is the last one.
func (a *API) next(r *http.Request, p page, total int) string {
	offset := p.offset + p.size
	if offset >= total {
		return ""
	}
	return a.pageLink(r, r.URL.Query(), strconv.Itoa(offset), p.size)
}

// pageLink is the address of the same list from another offset.
func (a *API) pageLink(r *http.Request, q url.Values, offset string, size int) string {
	q.Set("offset", offset)
	q.Set("size", strconv.Itoa(size))
	base := strings.TrimSuffix(a.RootURL, "/")
	if base == "" {
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		base = scheme + r.Host + a.BasePath
	}
	return base + r.URL.EscapedPath() + "?" + q.Encode()
}
