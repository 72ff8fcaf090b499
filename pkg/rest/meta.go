package rest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/observe"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// product is what this API calls itself.
const product = "Atoll"

// referenceProduct is what tools of the reference insist on talking to.
const referenceProduct = "Kuma"

// fromKumactl tells whether the reference's own tool asks.
func fromKumactl(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "kumactl/") }

// index answers who this is. Nobody has to authenticate for it.
func (a *API) index(w http.ResponseWriter, r *http.Request) error {
	s := a.View.Snapshot()
	name := product
	if fromKumactl(r) {
		name = referenceProduct // kumactl refuses to add a control plane of another name
	}
	gui := ""
	if a.GUI != nil {
		gui = a.GUIPath
	}
	noteRevision(w, s.Revision())
	writeJSON(w, http.StatusOK, struct {
		Hostname     string `json:"hostname"`
		Product      string `json:"product"`
		Version      string `json:"version"`
		AtollVersion string `json:"atollVersion"`
		InstanceID   string `json:"instanceId"`
		ClusterID    string `json:"clusterId"`
		GUI          string `json:"gui"`
		BasedOnKuma  string `json:"basedOnKuma,omitempty"`
	}{a.Hostname, name, observe.APIVersion, observe.ReadBuild().Version, a.InstanceID, kind.ClusterIDIn(s), gui, observe.APIVersion})
	return nil
}

func (a *API) config(w http.ResponseWriter, r *http.Request) error {
	if err := a.Access.Metadata(auth.UserFrom(r.Context())); err != nil {
		return err
	}
	writeIndented(w, a.Settings)
	return nil
}

func (a *API) whoAmI(w http.ResponseWriter, r *http.Request) error {
	u := auth.UserFrom(r.Context())
	groups := u.Groups
	if groups == nil {
		groups = []string{}
	}
	writeJSON(w, http.StatusOK, struct {
		Name   string   `json:"name"`
		Groups []string `json:"groups"`
	}{u.Name, groups})
	return nil
}

type resourceType struct {
	Name                string      `json:"name"`
	Scope               string      `json:"scope"`
	ReadOnly            bool        `json:"readOnly"`
	Path                string      `json:"path"`
	SingularDisplayName string      `json:"singularDisplayName"`
	PluralDisplayName   string      `json:"pluralDisplayName"`
	ShortName           string      `json:"shortName"`
	IncludeInFederation bool        `json:"includeInFederation"`
	Policy              *policyType `json:"policy,omitempty"`
	// What follows is for atollctl, which learns kinds from here.
	Singular  string   `json:"singular,omitempty"`
	Aliases   []string `json:"aliases,omitempty"`
	AdminOnly bool     `json:"adminOnly,omitempty"`
}

type policyType struct {
	IsTargetRef       bool `json:"isTargetRef"`
	HasToTargetRef    bool `json:"hasToTargetRef"`
	HasFromTargetRef  bool `json:"hasFromTargetRef"`
	HasRulesTargetRef bool `json:"hasRulesTargetRef"`
	IsFromAsRules     bool `json:"isFromAsRules"`
}

func (a *API) resourceTypes(w http.ResponseWriter, r *http.Request) error {
	out := []resourceType{}
	for k := range a.Kinds.All() {
		if k.Internal || k.Native && fromKumactl(r) { // it would warn of kinds that it does not know
			continue
		}
		t := resourceType{
			Name: string(k.Type), Scope: string(k.Scope), ReadOnly: a.writable(k) != nil, Path: k.Plural,
			SingularDisplayName: k.Display, PluralDisplayName: k.Displays, ShortName: k.Short,
			IncludeInFederation: k.Flows.Has(resource.GlobalToZone) && !k.ReadOnly,
			Singular:            k.Single, Aliases: k.Aliases, AdminOnly: k.AdminOnly,
		}
		if p := k.Policy; p != nil {
			t.Policy = &policyType{IsTargetRef: true, HasToTargetRef: p.HasTo, HasRulesTargetRef: p.HasRules}
		}
		out = append(out, t)
	}
	writeJSON(w, http.StatusOK, map[string]any{"resources": out})
	return nil
}

type policySummary struct {
	Name                string `json:"name"`
	ReadOnly            bool   `json:"readOnly"`
	Path                string `json:"path"`
	SingularDisplayName string `json:"singularDisplayName"`
	PluralDisplayName   string `json:"pluralDisplayName"`
	IsExperimental      bool   `json:"isExperimental"`
	IsTargetRefBased    bool   `json:"isTargetRefBased"`
	IsInbound           bool   `json:"isInbound"`
	IsOutbound          bool   `json:"isOutbound"`
}

func (a *API) policies(w http.ResponseWriter, r *http.Request) error {
	out := []policySummary{}
	for k := range a.Kinds.All() {
		if k.Policy == nil {
			continue
		}
		out = append(out, policySummary{
			Name: string(k.Type), ReadOnly: a.writable(k) != nil, Path: k.Plural,
			SingularDisplayName: k.Display, PluralDisplayName: k.Displays, IsTargetRefBased: true,
			IsInbound: k.Policy.HasRules, IsOutbound: k.Policy.HasTo,
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"policies": out})
	return nil
}

// parseKRI reads an identifier of a kind that there is.
func (a *API) parseKRI(text string) (resource.KRI, error) {
	kri, err := resource.ParseKRI(text)
	if err == nil && a.Kinds.ByShort(kri.Short) == nil {
		err = fmt.Errorf("no kind has the short name %q; known are %s", kri.Short, strings.Join(a.shortNames(), ", "))
	}
	if err != nil {
		return kri, badRequest("bad request: %v", err)
	}
	return kri, nil
}

// byKRI answers the resource that an identifier means, in whatever control plane
// it was created.
func (a *API) byKRI(w http.ResponseWriter, r *http.Request) error {
	kri, err := a.parseKRI(r.PathValue("kri"))
	if err != nil {
		return err
	}
	k := a.Kinds.ByShort(kri.Short)
	t := auth.TargetNamed(k, kri.Mesh, kri.Name)
	if kri.Zone != "" {
		t.Zone = &kri.Zone
	}
	if err := a.Access.Object(auth.UserFrom(r.Context()), auth.Read, t); err != nil {
		return err
	}
	s := a.View.Snapshot()
	return a.answerObject(w, r, s, s.ByKRI(kri))
}

func (a *API) shortNames() []string {
	var names []string
	for k := range a.Kinds.All() {
		if k.Short != "" {
			names = append(names, k.Short)
		}
	}
	slices.Sort(names)
	return names
}
