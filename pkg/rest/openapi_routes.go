package rest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/explain"
	"github.com/atoll-mesh/atoll/pkg/failover"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/liveness"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// operationDoc says of one operation what its route does not.
type operationDoc struct {
	summary, tag string
	query        []object
	body         object // nil: none
	answer       object // nil: any JSON
	media        string // empty: JSON
}

// overviewKind is a kind whose documents are also shown together with insights.
type overviewKind struct {
	of, insight   resource.Type
	member, other string
}

var overviewKinds = []overviewKind{
	{kind.Dataplane, kind.DataplaneInsight, "dataplane", "dataplaneInsight"},
	{kind.Zone, kind.ZoneInsight, "zone", "zoneInsight"},
}

func (a *API) overviewSchema(of overviewKind) object {
	none := func(string) string { return "" }
	base := a.resourceSchema(a.Kinds.ByType(of.of))["properties"].(object)
	members := object{"type": object{"const": string(of.of) + "Overview"}, of.member: published(a.Kinds.ByType(of.of).Schema, none, "")}
	for _, m := range []string{"name", "mesh", "labels", "kri", "creationTime", "modificationTime"} {
		if base[m] != nil {
			members[m] = base[m]
		}
	}
	if k := a.Kinds.ByType(of.insight); k != nil {
		members[of.other] = published(k.Schema, none, "")
	}
	return object{"type": "object", "required": []string{"type", "name", of.member}, "properties": members}
}

func (a *API) writeSchema() object { return goSchema[writeResult]() }

func queryParameter(name, typ, description string) object {
	return object{"name": name, "in": "query", "description": description, "schema": object{"type": typ}}
}

// Parameters of lists, items and writes.
var (
	pageParameters = []object{
		queryParameter("size", "integer", "How many at most; 100 unless told, 1000 at most."),
		queryParameter("offset", "string", "Where the page begins, as the address in next has it."),
		queryParameter("name", "string", "Only those whose name contains this."),
	}
	labelParameter = object{
		"name": "filter", "in": "query", "style": "deepObject", "explode": true,
		"description": "Only those with a label: filter[labels.KEY]=VALUE.",
		"schema":      object{"type": "object", "additionalProperties": object{"type": "string"}},
	}
	formatParameters = []object{
		{"name": "format", "in": "query", "schema": object{"type": "string", "enum": []string{"universal", "k8s", "kubernetes"}}},
		queryParameter("namespace", "string", "Of the document in the format of Kubernetes."),
	}
	proxyParameters = []object{
		queryParameter("tag", "string", "Only those with this label or tag: KEY:VALUE. May be repeated."),
		queryParameter("gateway", "string", "true, false or delegated."),
	}
	ifMatch     = object{"name": "If-Match", "in": "header", "schema": object{"type": "string"}, "description": "Only if this is its version (ETag)."}
	ifNoneMatch = object{"name": "If-None-Match", "in": "header", "schema": object{"type": "string"}, "description": "Only if it has another version; * of a write: only if it does not exist."}
)

// documented describes an operation. Kinds are all described alike.
func (a *API) documented(pattern, method string) operationDoc {
	if d, ok := operationFor(method + " " + pattern); ok {
		return d
	}
	parts := strings.Split(strings.Trim(pattern, "/"), "/")
	if len(parts) > 2 && parts[0] == "meshes" && parts[1] == "{mesh}" {
		parts = parts[2:]
	}
	base, _, insights := strings.Cut(parts[0], "+")
	k := a.Kinds.ByPath(base)
	if k == nil {
		return operationDoc{summary: "GET " + pattern, tag: "System"}
	}
	tail := strings.Join(parts[1:], "/")
	if insights {
		tail = strings.TrimPrefix(tail+"/_overview", "/")
	}
	return a.documentedKind(k, tail, method)
}

func (a *API) documentedKind(k *resource.Kind, tail, method string) operationDoc {
	one := ref(string(k.Type))
	d := operationDoc{tag: string(k.Type)}
	switch {
	case tail == "" || tail == "_overview":
		d.summary, d.answer = "List resources of the kind "+string(k.Type)+".", listSchema(one)
		d.query = append(slices.Clone(pageParameters), labelParameter, atParameter)
		if k.Type == kind.Dataplane {
			d.query = append(d.query, proxyParameters...)
		}
		if tail != "" {
			d.summary = "List them together with what their insights say."
			d.answer = listSchema(ref(string(k.Type) + "Overview"))
		}
	case tail == "{name}/_overview":
		d.summary, d.answer = "One together with what its insight says.", ref(string(k.Type)+"Overview")
	case tail == "{name}" && method == http.MethodGet:
		d.summary, d.answer, d.query = "Get one.", one, append(slices.Clone(formatParameters), ifNoneMatch, atParameter)
		d.answer = object{"anyOf": []object{one, kubernetesSchema}}
	case tail == "{name}" && method == http.MethodPut:
		d.summary, d.answer, d.body = "Create or replace one.", written, one
		d.query = append([]object{ifMatch, ifNoneMatch}, writeParameters...)
	case tail == "{name}" && method == http.MethodDelete:
		d.summary, d.answer = "Delete one.", written
		d.query = append([]object{ifMatch}, writeParameters...)
	default:
		d.summary, d.answer, d.tag = "Inspect", nil, "Inspect"
		if of, ok := inspections[strings.TrimPrefix(tail, "{name}/")]; ok {
			return of
		}
	}
	return d
}

// Parameters of what has a past and a future.
var (
	writeParameters = []object{queryParameter("dryRun", "boolean", "Say what would change, and change nothing.")}
	atParameter     = queryParameter("at", "string", "As it was at a revision or a time.")
)

var (
	anything         = object{}
	kubernetesSchema = object{
		"type": "object", "required": []string{"apiVersion", "kind", "metadata"},
		"properties": object{"apiVersion": text(""), "kind": text(""), "metadata": object{"type": "object"}},
	}
	kriList   = object{"type": "array", "items": object{"type": "object", "required": []string{"kri"}, "properties": object{"kri": object{"type": "string"}}}}
	metaShape = members("type!", text(""), "mesh", text(""), "name!", text(""), "labels!", object{"type": "object", "additionalProperties": object{"type": "string"}})
	metaList  = listSchema(metaShape)
)

// members describes an object: names, of which those with ! are required, each
// followed by its schema.
func members(list ...any) object {
	properties, required := object{}, []string{}
	for i := 0; i < len(list); i += 2 {
		name, must := strings.CutSuffix(list[i].(string), "!")
		if must {
			required = append(required, name)
		}
		properties[name] = list[i+1]
	}
	return object{"type": "object", "properties": properties, "required": required}
}

func arrayOf(items object) object { return object{"type": "array", "items": items} }

// inspections are what is below one resource.
var inspections = map[string]operationDoc{
	"_rules": {summary: "All that policies say about a proxy.", tag: "Inspect", answer: members(
		"resource!", metaShape,
		"httpMatches!", arrayOf(members("hash!", text(""), "match!", anything)),
		"rules!", arrayOf(object{"type": "object", "required": []string{"type", "toResourceRules", "inboundRules", "warnings"}}),
	), query: []object{
		queryParameter("include", "string", "fields: of every merged field, which policy it came from."),
	}},
	"_policies": {summary: "What configures the proxy as a whole.", tag: "Inspect", answer: members("policies!", arrayOf(
		members("kind!", text(""), "conf!", anything, "origins!", kriList),
	))},
	"_inbounds/{kri}/_policies": {summary: "The rules of one inbound.", tag: "Inspect", answer: members("policies!", arrayOf(
		members("kind!", text(""), "origins!", kriList, "rules!", arrayOf(members("kri!", text(""), "conf!", anything, "match", anything))),
	))},
	"_outbounds/{kri}/_policies": {summary: "What applies to one port of a destination.", tag: "Inspect", answer: members("policies!", arrayOf(
		members("kind!", text(""), "conf!", anything, "origins!", kriList),
	))},
	"_outbounds/{kri}/_routes": {summary: "The routes to one port of a destination.", tag: "Inspect", answer: members("routes!", arrayOf(
		members("kind!", text(""), "origins!", kriList, "rules!", arrayOf(members("kri!", text(""), "matches!", anything, "conf!", anything))),
	))},
	"_outbounds/{kri}/_routes/{route}/_policies": {summary: "What applies to one route.", tag: "Inspect", answer: members("policies!", arrayOf(
		members("kind!", text(""), "conf!", anything, "origins!", kriList),
	))},
	"_layout": {summary: "What a proxy listens on and what it can call.", tag: "Inspect", answer: members(
		"kri!", text(""), "labels!", object{"type": "object"}, "inbounds!", arrayOf(object{"type": "object"}),
		"outbounds!", arrayOf(object{"type": "object"}), "listeners!", arrayOf(object{"type": "object"}), "spiffeId", text(""),
	)},
	"_config": {
		summary: "The Envoy configuration of a proxy, asked of its zone.", tag: "Inspect",
		query: []object{
			queryParameter("shadow", "boolean", "With the policies that are applied for show only."),
			queryParameter("include", "string", "diff: also how it differs from what the proxy has."),
		},
		answer: members("xds!", object{"type": "object"}, "diff", arrayOf(members("op!", text(""), "path!", text(""), "value", anything))),
	},
	"policies": {summary: "Which policies select the proxy, in an older form.", tag: "Inspect", answer: members(
		"kind!", text(""), "total!", object{"type": "integer"}, "items!", arrayOf(members("type!", text(""), "matchedPolicies!", object{"type": "object"})),
	)},
	"{question}": {summary: "Ask the running proxy: xds, stats or clusters.", tag: "Inspect", media: "*/*", query: []object{
		queryParameter("include_eds", "boolean", "Of xds: with the endpoints."),
		queryParameter("usedonly", "boolean", "Of stats: only those that were used, which is the default."),
		{"name": "format", "in": "query", "schema": object{"type": "string", "enum": []string{"text", "json"}}, "description": "Of stats and clusters."},
	}},
	"_resources/dataplanes": {summary: "The Dataplanes that a policy selects.", tag: "Inspect", query: pageParameters, answer: metaList},
	"-resources/dataplanes": {summary: "The Dataplanes that a policy selects, as kumactl asks.", tag: "Inspect", query: pageParameters, answer: metaList},
	"_dataplanes":           {summary: "The Dataplanes that a service selects.", tag: "Inspect", query: pageParameters, answer: metaList},
	"dataplanes": {summary: "The Dataplanes that a policy selects, in an older form.", tag: "Inspect", answer: members("total!", object{"type": "integer"}, "items!", arrayOf(
		members("kind!", text(""), "dataplane!", members("mesh!", text(""), "name!", text("")), "attachments!", arrayOf(object{"type": "object"})),
	))},
	"_hostnames": {summary: "The names that a destination can be called by.", tag: "Inspect", answer: members("total!", object{"type": "integer"}, "items!", arrayOf(
		members("hostname!", text(""), "zones!", arrayOf(members("name!", text("")))),
	))},
}

var (
	token = object{"type": "string"}
	// written is the answer to a write, or to its dry run.
	written = object{"anyOf": []object{ref("WriteResult"), goSchema[previewBody]()}}
)

// operations describes what is not about a kind.
var operations = map[string]operationDoc{
	"GET /{$}": {summary: "Who this is. Needs no authentication.", tag: "System", answer: members(
		"hostname!", text(""), "product!", text(""), "version!", text("The version of the API."), "atollVersion!", text(""),
		"instanceId!", text(""), "clusterId!", text(""), "gui!", text(""), "basedOnKuma", text(""),
	)},
	"GET /config":     {summary: "The settings of this control plane, without secrets.", tag: "System", answer: object{"type": "object"}},
	"GET /who-am-i":   {summary: "Who the caller is.", tag: "System", answer: members("name!", text(""), "groups!", arrayOf(text("")))},
	"GET /_resources": {summary: "The kinds of resources.", tag: "System", answer: members("resources!", arrayOf(goSchema[resourceType]()))},
	"GET /policies":   {summary: "The kinds that are policies.", tag: "System", answer: members("policies!", arrayOf(goSchema[policySummary]()))},
	"GET /_kri/{kri}": {summary: "The resource that an identifier names, wherever it was made.", tag: "System", query: formatParameters, answer: object{
		"type": "object", "required": []string{"type", "name"},
	}},
	"GET /global-insight": {summary: "The state of everything in numbers.", tag: "System", answer: members(
		"createdAt!", object{"type": "string", "format": "date-time"},
		"dataplanes!", members("standard!", goSchema[statusTotal](), "gatewayDelegated!", goSchema[statusTotal]()),
		"meshes!", goSchema[total](), "policies!", goSchema[total](), "resources!", object{"type": "object", "additionalProperties": goSchema[total]()},
		"services!", members("internal!", goSchema[statusTotal](), "gatewayDelegated!", goSchema[statusTotal](), "external!", goSchema[total]()),
		"zones!", members("controlPlanes!", goSchema[onlineTotal](), "zoneIngresses!", goSchema[onlineTotal](), "zoneEgresses!", goSchema[onlineTotal]()),
	)},
	"GET /global-insights": {summary: "Numbers of resources, in an older form.", tag: "System", answer: members(
		"type!", text(""), "creationTime!", object{"type": "string", "format": "date-time"},
		"resources!", object{"type": "object", "additionalProperties": goSchema[total]()},
	)},
	"GET " + openAPIPath: {summary: "This description, as JSON or, by Accept, as YAML.", tag: "System", answer: object{"type": "object", "required": []string{"openapi", "paths"}}},
	"GET /meshes/{mesh}/_explain": {summary: "What happens to a request from a proxy to what it calls, and which step is broken.", tag: "Inspect", answer: goSchema[explain.Report](), query: []object{
		queryParameter("from", "string", "A Dataplane, or a service, of which a proxy is taken."),
		queryParameter("to", "string", "A hostname, virtual address, service or KRI, with its port where there are several."),
	}},
	"GET /failover/gaps": {summary: "What would break if a zone were lost, and why.", tag: "Failover", answer: goSchema[gapsAnswer](), query: []object{
		queryParameter("zone", "string", "Only if this zone were lost."), queryParameter("mesh", "string", "Only in this mesh."),
	}},
	"GET /failover/simulate": {summary: "Where requests go before and after a zone is lost.", tag: "Failover", answer: goSchema[failover.Simulation](), query: []object{
		queryParameter("lose", "string", "The zone."), queryParameter("mesh", "string", "Only in this mesh."),
	}},
	"GET /zones/_links":        {summary: "What zones say of each other: who reaches whom, how fast, and who sends no traffic to whom.", tag: "Failover", answer: goSchema[liveness.Matrix]()},
	"GET /zones/{name}/_drain": {summary: "How far the drains of a zone are.", tag: "Failover", answer: goSchema[drainAnswer]()},
	"POST /zones/{name}/_drain": {
		summary: "Take a zone, or services of it, out of the traffic, unless requests would fail.", tag: "Failover",
		body: goSchema[drainRequest](), answer: goSchema[drainAnswer](),
	},
	"POST /zones/{name}/_undrain": {
		summary: "Put a zone, or services of it, back.", tag: "Failover", body: goSchema[drainRequest](), answer: goSchema[drainAnswer](),
	},
	"POST /zone/_adopt": {summary: "Make a zone follow the global that it is connected to now.", tag: "System", answer: object{"type": "object"}},
	"POST /tokens/dataplane": {summary: "Issue a token for proxies.", tag: "Tokens", answer: token, media: "text/plain", body: members(
		"mesh!", text("The mesh of the Dataplanes."), "name", text("Only for the Dataplane of this name."),
		"tags", object{"type": "object", "additionalProperties": arrayOf(text(""))}, "type", object{"type": "string", "enum": []string{"", "dataplane"}},
		"workload", text("Only for Dataplanes of this workload."), "validFor", text("How long, such as 24h."),
	)},
	"POST /tokens/zone": {summary: "Issue a token for a zone's control plane.", tag: "Tokens", answer: token, media: "text/plain", body: members(
		"zone!", text("Name of the zone."), "scope", arrayOf(text("")), "validFor", text("How long, such as 24h."),
	)},
	"POST /tokens/user": {summary: "Issue a token for a person or a tool.", tag: "Tokens", answer: token, media: "text/plain", body: members(
		"name!", text("Name of the user."), "groups", arrayOf(text("")), "validFor!", text("How long, such as 24h."),
	)},
}
