package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	api "github.com/atoll-mesh/atoll/api/client"
)

func (a *app) diffCmd() *cobra.Command {
	var files []string
	var vars map[string]string
	c := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Compare resources in files with those of the server, line by line: lines with -
are on the server only, lines with + in the files only. What the server computes,
such as times, status and labels below kuma.io/, is left out.

A server that can try out writes also checks the documents, and says which
differences are no more than defaults that it fills in.

Exits with 0 when nothing differs and with 1 when something does.`,
		Example: `  atollctl diff -f policies/
  atollctl diff -f timeout.yaml && echo nothing to do`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			docs, err := a.documents(cmd.Context(), files, vars)
			if err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			trial := cl.mustDryRun(cmd.Context()) == nil
			differ := 0
			err = a.each(docs, "compared", func(d *document) error {
				changed, err := a.diffOne(cmd.Context(), cl, d, trial)
				if changed {
					differ++
				}
				return err
			})
			if err == nil && differ > 0 {
				err = failWith(exitFailed, "%d of %d resources differ", differ, len(docs))
			}
			return err
		},
	}
	fileFlags(c, &files, &vars, "compare")
	a.meshFlag(c)
	return c
}

// preview is what a server says that a write would do.
type preview struct {
	Operation string
	Envoy     struct {
		Compared, Changed int
		Groups            []struct {
			Proxies struct {
				Total int
				Names []string
			}
			Total   int
			Changes []struct{ Type, Name, Operation string }
		}
	}
}

// preview asks what writing a document would do.
func (c *client) preview(ctx context.Context, t target, doc []byte) (p preview, err error) {
	b, err := t.put(ctx, c, doc, api.WithDryRun(true))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &p)
}

// printEffect says which Envoys a change would reach. The lines are comments to
// tools that read differences.
func (a *app) printEffect(p preview) {
	if p.Envoy.Compared == 0 {
		return
	}
	fmt.Fprintf(a.out, "# changes the configuration of %d of %d proxies\n", p.Envoy.Changed, p.Envoy.Compared)
	for _, g := range p.Envoy.Groups {
		var what []string
		for _, c := range g.Changes {
			what = append(what, c.Operation+" "+c.Type+" "+c.Name)
		}
		if n := g.Total - len(g.Changes); n > 0 {
			what = append(what, fmt.Sprintf("%d more", n))
		}
		names := g.Proxies.Names
		if n := g.Proxies.Total - len(names); n > 0 {
			names = append(names, fmt.Sprintf("%d more", n))
		}
		fmt.Fprintf(a.out, "#   %s: %s\n", strings.Join(names, ", "), strings.Join(what, ", "))
	}
}

func (a *app) diffOne(ctx context.Context, cl *client, d *document, trial bool) (bool, error) {
	t, err := a.targetOf(ctx, cl, d)
	if err != nil {
		return false, err
	}
	got, err := t.get(ctx, cl)
	if err != nil && !isNotFound(err) {
		return false, err
	}
	var from map[string]any
	if got.body != nil {
		if err := json.Unmarshal(got.body, &from); err != nil {
			return false, err
		}
	}
	sent, err := json.Marshal(d.value)
	if err != nil {
		return false, err
	}
	var to map[string]any
	if err := json.Unmarshal(sent, &to); err != nil {
		return false, err
	}
	withoutComputed(from, to)
	withoutComputed(to, nil)
	is, err := textOf(from)
	if err != nil {
		return false, err
	}
	be, err := textOf(to)
	if err != nil {
		return false, err
	}
	unified, would := diff.Diff(t.path(), is, d.at(""), be), preview{}
	if unified == nil {
		return false, nil
	}
	if trial {
		// Defaults that the server fills in are no difference, and only it knows them.
		would, err = cl.preview(ctx, t, sent)
		if would.Operation == "none" {
			return false, nil
		}
		if isStatus(err, http.StatusBadRequest) {
			return false, d.locate(err)
		}
	}
	a.printDiff(unified)
	a.printEffect(would)
	return true, nil
}

// withoutComputed removes what a server adds to a document. Labels that the
// other document has too stay.
func withoutComputed(doc, other map[string]any) {
	for _, key := range []string{"creationTime", "modificationTime", "kri", "snis", "status"} {
		delete(doc, key)
	}
	labels, _ := doc["labels"].(map[string]any)
	given, _ := other["labels"].(map[string]any)
	for key := range labels {
		if _, kept := given[key]; !kept && other != nil && strings.HasPrefix(key, "kuma.io/") {
			delete(labels, key)
		}
	}
	if len(labels) == 0 {
		delete(doc, "labels")
	}
}

func textOf(doc map[string]any) ([]byte, error) {
	if doc == nil {
		return nil, nil
	}
	return yaml.Marshal(doc)
}

// printDiff prints a unified difference, on terminals with colours.
func (a *app) printDiff(unified []byte) {
	n := 0
	for line := range strings.Lines(string(unified)) {
		text := strings.TrimSuffix(line, "\n")
		switch n++; {
		case n == 1: // says no more than the two names that follow
			continue
		case n > 3 && text[0] == '-':
			text = a.paint(red, text)
		case n > 3 && text[0] == '+':
			text = a.paint(green, text)
		}
		fmt.Fprintln(a.out, text)
	}
}
