package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// Profiles of export.
const (
	profileFederation   = "federation"
	profileWithPolicies = "federation-with-policies"
	profileAll          = "all"
	profileNoDataplanes = "no-dataplanes"
)

var profiles = []string{profileFederation, profileWithPolicies, profileAll, profileNoDataplanes}

// exporting is one run of export.
type exporting struct {
	*app
	cl        *client
	profile   string
	format    string
	namespace string
	admin     bool
}

func (a *app) exportCmd() *cobra.Command {
	e := &exporting{app: a}
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the resources of a control plane, for another one to apply",
		Long: `Write the resources of a control plane as YAML documents, in an order in which
they can be applied.

Profiles: federation (what a global needs to take over this zone, without
policies), federation-with-policies, all, and no-dataplanes (all but what proxies
and zones make by themselves). The federation profiles hold the secrets and leave
out where a resource comes from; all other ones hold secrets only with -a.`,
		Example: `  atollctl export --profile federation-with-policies >zone.yaml
  atollctl export --profile all --format kubernetes`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(profiles, e.profile) {
				return failWith(exitUsage, "unknown --profile %q; choose one of %s", e.profile, strings.Join(profiles, ", "))
			}
			if e.format != "universal" && e.format != "kubernetes" {
				return failWith(exitUsage, "unknown --format %q; choose universal or kubernetes", e.format)
			}
			var err error
			if e.cl, err = a.connect(); err != nil {
				return err
			}
			return e.run(cmd.Context())
		},
	}
	f := c.Flags()
	f.StringVarP(&e.profile, "profile", "p", profileFederation, strings.Join(profiles, ", "))
	f.StringVarP(&e.format, "format", "f", "universal", "universal or kubernetes")
	f.StringVarP(&e.namespace, "namespace", "n", "", "system namespace of documents for Kubernetes")
	f.BoolVarP(&e.admin, "include-admin", "a", false, "include what only admins may read, such as secrets")
	return c
}

func (e *exporting) federation() bool {
	return e.profile == profileFederation || e.profile == profileWithPolicies
}

// includes tells whether a kind belongs to the profile.
func (e *exporting) includes(k kindInfo) bool {
	if k.AdminOnly && !e.admin && !e.federation() {
		return false
	}
	switch e.profile {
	case profileFederation:
		return k.IncludeInFederation && (k.Policy == nil || !k.Policy.IsTargetRef)
	case profileWithPolicies:
		return k.IncludeInFederation
	case profileNoDataplanes:
		return !strings.HasSuffix(k.Name, "Insight") && k.Name != "Dataplane"
	}
	return !strings.HasSuffix(k.Name, "Insight")
}

// exported is one document and when it is to be applied.
type exported struct {
	rank int
	kind kindInfo
	doc  map[string]any
}

// exportRank orders documents: meshes first, then their secrets, so that no keys
// are made anew, and the key of this very user's token last.
func exportRank(k kindInfo, name string) int {
	switch {
	case k.Name == "Mesh":
		return 0
	case k.Name == "Secret":
		return 1
	case k.Name == "GlobalSecret" && strings.HasPrefix(name, "user-token-signing-key"):
		return 4
	case k.Name == "GlobalSecret":
		return 3
	}
	return 2
}

// ownSecrets are made by every control plane for itself.
var ownSecrets = []string{"envoy-admin-ca", "inter-cp-ca"}

func (e *exporting) run(ctx context.Context) error {
	kinds, err := e.cl.allKinds(ctx)
	if err != nil {
		return err
	}
	var all []exported
	for _, k := range kinds {
		if !e.includes(k) {
			continue
		}
		items, _, err := e.cl.list(ctx, k.in(""), nil)
		if err != nil {
			return err
		}
		for _, raw := range items {
			d := json.NewDecoder(bytes.NewReader(raw))
			d.UseNumber()
			var doc map[string]any
			if err := d.Decode(&doc); err != nil {
				return err
			}
			name, _ := doc["name"].(string)
			if k.Name == "GlobalSecret" && slices.Contains(ownSecrets, name) {
				continue
			}
			all = append(all, exported{exportRank(k, name), k, e.adapted(k, doc)})
		}
	}
	slices.SortStableFunc(all, func(a, b exported) int { return a.rank - b.rank })
	for i, x := range all {
		if i > 0 {
			fmt.Fprintln(e.out, "---")
		}
		if err := e.write(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// adapted leaves out what the server computes, and says that a mesh comes with
// all that belongs to it.
func (e *exporting) adapted(k kindInfo, doc map[string]any) map[string]any {
	for _, key := range []string{"creationTime", "modificationTime", "kri", "snis", "status"} {
		delete(doc, key)
	}
	if k.Name == "Mesh" {
		doc["skipCreatingInitialPolicies"] = []any{"*"}
	}
	if labels, ok := doc["labels"].(map[string]any); ok && e.federation() {
		delete(labels, "kuma.io/origin")
	}
	return doc
}

func (e *exporting) write(ctx context.Context, x exported) error {
	if e.format == "universal" {
		b, err := json.Marshal(x.doc)
		if err != nil {
			return err
		}
		return e.printDocument(b)
	}
	mesh, _ := x.doc["mesh"].(string)
	name, _ := x.doc["name"].(string)
	options := []api.Option{api.WithFormat("k8s")}
	if e.namespace != "" {
		options = append(options, api.WithNamespace(e.namespace))
	}
	got, err := target{x.kind, mesh, name}.get(ctx, e.cl, options...)
	if err != nil {
		return err
	}
	return e.printDocument(got.body)
}
