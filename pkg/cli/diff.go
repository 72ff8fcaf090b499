package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

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
			docs, err := a.documents(files, vars)
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
	is, err := linesOf(from)
	if err != nil {
		return false, err
	}
	be, err := linesOf(to)
	if err != nil {
		return false, err
	}
	hunks, would := diffLines(is, be), preview{}
	if len(hunks) == 0 {
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
	name := t.path()
	fmt.Fprintf(a.out, "--- %s\n+++ %s\n", name, d.at(""))
	for _, h := range hunks {
		a.printHunk(a.out, h)
	}
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

func linesOf(doc map[string]any) ([]string, error) {
	if doc == nil {
		return nil, nil
	}
	b, err := yaml.Marshal(doc)
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n"), err
}

// hunk is a run of lines around changes; each begins with ' ', '-' or '+'.
type hunk struct {
	from, to int // number of the first line, counted from 1
	lines    []string
}

const contextLines = 3

// diffLines makes the shortest list of changes from a to b.
func diffLines(a, b []string) []hunk {
	var out []hunk
	script := editScript(a, b)
	keepUntil, last, i, j := -1, -2, 0, 0
	for n, line := range script {
		near := n <= keepUntil
		if !near { // does a change follow soon?
			for ahead := n; ahead < min(n+contextLines+1, len(script)); ahead++ {
				near = near || script[ahead][0] != ' '
			}
			if near && last != n-1 {
				out = append(out, hunk{from: i + 1, to: j + 1})
			}
		}
		if near {
			last = n
			h := &out[len(out)-1]
			h.lines = append(h.lines, line)
			for ahead := n; ahead < min(n+contextLines+1, len(script)); ahead++ {
				if script[ahead][0] != ' ' {
					keepUntil = ahead + contextLines
				}
			}
		}
		if line[0] != '+' {
			i++
		}
		if line[0] != '-' {
			j++
		}
	}
	return out
}

// editScript lists all lines of both: those that both have, in the longest
// common order, once.
func editScript(a, b []string) []string {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, " "+a[i])
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "-"+a[i])
			i++
		default:
			out = append(out, "+"+b[j])
			j++
		}
	}
	return out
}

func (a *app) printHunk(w io.Writer, h hunk) {
	removed, added := 0, 0
	for _, l := range h.lines {
		if l[0] != '+' {
			removed++
		}
		if l[0] != '-' {
			added++
		}
	}
	if removed == 0 {
		h.from-- // the line after which they are added
	}
	if added == 0 {
		h.to--
	}
	fmt.Fprintf(w, "@@ -%d,%d +%d,%d @@\n", h.from, removed, h.to, added)
	for _, l := range h.lines {
		switch l[0] {
		case '-':
			l = a.paint(red, l)
		case '+':
			l = a.paint(green, l)
		}
		fmt.Fprintln(w, l)
	}
}
