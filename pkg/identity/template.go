package identity

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Forms of SPIFFE IDs unless the identity says otherwise.
const (
	defaultTrustDomain    = "{{ .Mesh }}.{{ .Zone }}.mesh.local"
	defaultPath           = "/workload/{{ .Workload }}"
	defaultPathKubernetes = "/ns/{{ .Namespace }}/sa/{{ .ServiceAccount }}"
)

// templates are what the SPIFFE IDs of one MeshIdentity are made with.
type templates struct {
	trustDomain string // ready: it does not depend on the Dataplane
	path        *template.Template
	pathText    string
}

type pathData struct{ TrustDomain, Namespace, ServiceAccount, Workload string }

func labelFunc(labels map[string]string) template.FuncMap {
	return template.FuncMap{"label": func(key string) (string, error) {
		if v, ok := labels[key]; ok {
			return v, nil
		}
		return "", fmt.Errorf("label %s is missing", key)
	}}
}

func newTemplates(site resource.Site, o *resource.Object) (*templates, error) {
	spec := resource.SpecOf[kind.MeshIdentitySpec](o)
	td, path := defaultTrustDomain, defaultPath
	if site.Env == resource.EnvKubernetes {
		path = defaultPathKubernetes
	}
	if id := spec.SpiffeID; id != nil {
		if id.TrustDomain != nil {
			td = *id.TrustDomain
		}
		if id.Path != nil {
			path = *id.Path
		}
	}
	zone := o.Zone()
	if zone == "" {
		zone = site.Zone
	}
	domain, err := render(td, labelFunc(o.Labels), struct{ Mesh, Zone string }{o.Mesh, zone})
	if err != nil {
		return nil, fmt.Errorf("spec.spiffeID.trustDomain: %w", err)
	}
	if _, err := spiffeid.TrustDomainFromString(domain); err != nil || strings.Contains(domain, "/") {
		return nil, fmt.Errorf("spec.spiffeID.trustDomain gives %q, which is not a trust domain: use lower case letters, digits, '.', '-' and '_'", domain)
	}
	t, err := template.New("path").Funcs(labelFunc(nil)).Parse(path)
	if err != nil {
		return nil, fmt.Errorf("spec.spiffeID.path: %w", err)
	}
	return &templates{trustDomain: domain, path: t, pathText: path}, nil
}

func render(text string, funcs template.FuncMap, data any) (string, error) {
	t, err := template.New("").Funcs(funcs).Parse(text)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, data)
	return b.String(), err
}

// spiffeID is the identity of a Dataplane.
func (t *templates) spiffeID(dp *resource.Meta) (string, error) {
	var b bytes.Buffer
	own, err := t.path.Clone()
	if err == nil {
		err = own.Funcs(labelFunc(dp.Labels)).Execute(&b, pathData{
			TrustDomain: t.trustDomain, Namespace: dp.Namespace(),
			ServiceAccount: dp.Labels[resource.LabelServiceAccount], Workload: dp.Labels[resource.LabelWorkload],
		})
	}
	if err != nil {
		return "", fmt.Errorf("spec.spiffeID.path: %w", err)
	}
	id := "spiffe://" + t.trustDomain + b.String()
	parsed, err := spiffeid.FromString(id)
	if err == nil && parsed.TrustDomain().Name() != t.trustDomain {
		err = errors.New("the path does not begin with a slash")
	}
	if err != nil {
		return "", fmt.Errorf("%q is not a SPIFFE ID (%w): give the Dataplane the labels that the path is made of", id, err)
	}
	return id, nil
}

var labelCall = regexp.MustCompile(`label\s+["` + "`" + `]([^"` + "`" + `]+)["` + "`" + `]`)

// labels are those of a Dataplane that its identity is made of.
func (t *templates) labels() []string {
	used := map[string]bool{}
	for variable, label := range map[string]string{
		".Workload": resource.LabelWorkload, ".ServiceAccount": resource.LabelServiceAccount, ".Namespace": resource.LabelNamespace,
	} {
		if strings.Contains(t.pathText, variable) {
			used[label] = true
		}
	}
	for _, m := range labelCall.FindAllStringSubmatch(t.pathText, -1) {
		used[m[1]] = true
	}
	return slices.Sorted(maps.Keys(used))
}
