package cli

import (
	"encoding/json"
	"net/url"

	"github.com/spf13/cobra"
)

// completions are names the shell offers; without a server there are none.
type completions = []cobra.Completion

// completeKind offers kinds.
func (a *app) completeKind(cmd *cobra.Command, given []string, _ string) (completions, cobra.ShellCompDirective) {
	cl, err := a.connect()
	if err != nil || len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	kinds, err := cl.allKinds(cmd.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out completions
	for _, k := range kinds {
		out = append(out, cobra.CompletionWithDesc(k.Path, k.Display))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeResource offers kinds, then the names of resources.
func (a *app) completeResource(cmd *cobra.Command, given []string, begun string) (completions, cobra.ShellCompDirective) {
	if len(given) != 1 {
		return a.completeKind(cmd, given, begun)
	}
	cl, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	k, err := cl.kindByName(cmd.Context(), given[0])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	items, _, err := cl.list(cmd.Context(), k.in(a.mesh), url.Values{"name": {begun}})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out completions
	for _, raw := range items {
		var it item
		if json.Unmarshal(raw, &it) == nil {
			out = append(out, it.Name)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
