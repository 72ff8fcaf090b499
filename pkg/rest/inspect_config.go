package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	meshv1 "github.com/atoll-mesh/atoll/api/kuma/mesh/v1alpha1"
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// proxyConfig answers what a proxy is given, or would be given with the policies
// that are applied for show only, and how that differs from what it has.
func (a *API) proxyConfig(w http.ResponseWriter, r *http.Request) error {
	if a.Site.Global || a.ProxyInfo == nil {
		return &problem{http.StatusMethodNotAllowed, "Method not allowed", "Not allowed on global CP: ask the control plane of the proxy's zone", nil}
	}
	shadow, diff, err := configQuery(r)
	if err != nil {
		return err
	}
	s := a.View.Snapshot()
	dp, err := a.dataplane(s, r)
	if err != nil {
		return err
	}
	if err := a.Access.ConfigDump(auth.UserFrom(r.Context())); err != nil {
		return err
	}
	insight := s.Get(resource.ID{Type: kind.DataplaneInsight, Mesh: dp.Mesh, Name: dp.Name})
	if insight == nil {
		return notFound(titleGet)
	}
	info := a.ProxyInfo(dp.ID, resource.SpecOf[meshv1.DataplaneInsight](insight))
	build := func(shadow bool) (map[string]map[string]json.RawMessage, error) {
		in := a.Compile
		in.Shadow = shadow
		result, err := compile.Build(in, s, info)
		if err != nil {
			return nil, err
		}
		return result.JSON()
	}
	body := map[string]any{}
	config, err := build(shadow)
	if err != nil {
		return err
	}
	body["xds"] = config
	if diff {
		is, err := build(false)
		if err != nil {
			return err
		}
		patch, err := jsonPatch(is, config)
		if err != nil {
			return err
		}
		body["diff"] = patch
	}
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, body)
	return nil
}

func configQuery(r *http.Request) (shadow, diff bool, err error) {
	q := r.URL.Query()
	if text := q.Get("shadow"); text != "" {
		if shadow, err = strconv.ParseBool(text); err != nil {
			return false, false, badRequest("shadow: must be true or false, got %q", text)
		}
	}
	for _, values := range q["include"] {
		for v := range strings.SplitSeq(values, ",") {
			if v == "" { // kumactl sends the parameter always
				continue
			}
			if v != "diff" {
				return false, false, badRequest("include: only diff can be included, got %q", v)
			}
			diff = true
		}
	}
	return shadow, diff, nil
}

// patchOp is one step of a JSON patch (RFC 6902). Adding a member that exists
// replaces it.
type patchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// jsonPatch makes what turns one document into another.
func jsonPatch(from, to any) ([]patchOp, error) {
	a, err := plainJSON(from)
	if err != nil {
		return nil, err
	}
	b, err := plainJSON(to)
	if err != nil {
		return nil, err
	}
	return diffJSON([]patchOp{}, "", a, b), nil
}

// plainJSON is v as decoding its JSON gives it.
func plainJSON(v any) (out any, err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return out, json.Unmarshal(b, &out)
}

func diffJSON(ops []patchOp, path string, a, b any) []patchOp {
	if reflect.DeepEqual(a, b) {
		return ops
	}
	from, isMap := a.(map[string]any)
	to, same := b.(map[string]any)
	if isMap && same {
		for _, k := range slices.Sorted(maps.Keys(from)) {
			if _, kept := to[k]; !kept {
				ops = append(ops, patchOp{"remove", path + "/" + pointer(k), nil})
			}
		}
		for _, k := range slices.Sorted(maps.Keys(to)) {
			if old, had := from[k]; had {
				ops = diffJSON(ops, path+"/"+pointer(k), old, to[k])
			} else {
				ops = append(ops, patchOp{"add", path + "/" + pointer(k), to[k]})
			}
		}
		return ops
	}
	if x, y, ok := alike(a, b); ok {
		for i := range x {
			ops = diffJSON(ops, fmt.Sprintf("%s/%d", path, i), x[i], y[i])
		}
		return ops
	}
	return append(ops, patchOp{"add", path, b})
}

// alike tells whether two lists differ only within objects at equal places;
// adding to a list at an index would insert.
func alike(a, b any) (x, y []any, ok bool) {
	x, isList := a.([]any)
	y, same := b.([]any)
	if !isList || !same || len(x) != len(y) {
		return nil, nil, false
	}
	for i := range x {
		_, from := x[i].(map[string]any)
		_, to := y[i].(map[string]any)
		if !reflect.DeepEqual(x[i], y[i]) && !(from && to) {
			return nil, nil, false
		}
	}
	return x, y, true
}

// pointer escapes a member name for a JSON pointer (RFC 6901).
func pointer(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}

// Questions that can be asked of a proxy.
const (
	AskConfig   = "xds"
	AskStats    = "stats"
	AskClusters = "clusters"
)

// ProxyQuestion is what somebody wants to know from a running proxy.
type ProxyQuestion struct {
	Ask        string // one of AskConfig, AskStats and AskClusters
	IncludeEDS bool   // of configurations
	UsedOnly   bool   // of statistics: only those that were ever written
	JSON       bool   // of statistics and clusters: instead of text
}

const titleAsk = "Could not execute admin operation"

// askTimeout is how long a proxy may take to answer, its zone included; it is
// shorter than the time to write an answer.
const askTimeout = 15 * time.Second

// askProxy passes a question on to the proxy itself, or to its zone.
func (a *API) askProxy(w http.ResponseWriter, r *http.Request) error {
	user, query := auth.UserFrom(r.Context()), r.URL.Query()
	q := ProxyQuestion{Ask: r.PathValue("question"), JSON: query.Get("format") == "json", UsedOnly: true}
	contentType := "text/plain"
	if q.JSON {
		contentType = "application/json"
	}
	var err error
	switch q.Ask {
	case AskConfig:
		err, contentType = a.Access.ConfigDump(user), "application/json"
		q.IncludeEDS = query.Get("include_eds") == "true"
	case AskStats:
		err = a.Access.Stats(user)
		if used, wrong := strconv.ParseBool(query.Get("usedonly")); wrong == nil {
			q.UsedOnly = used
		}
	case AskClusters:
		err = a.Access.Clusters(user)
	case "_hostnames":
		return noHostnames(a.Kinds.ByType(kind.Dataplane).Plural)
	default:
		return notFound(titleAsk)
	}
	if err != nil {
		return err
	}
	s := a.View.Snapshot()
	dp, err := a.dataplane(s, r)
	if err != nil {
		return err
	}
	if a.AskProxy == nil {
		return badRequest("this control plane cannot ask proxies")
	}
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	b, err := a.AskProxy(ctx, dp, q)
	if err != nil {
		return badRequest("%v", err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
	return nil
}
