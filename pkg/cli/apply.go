package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	api "github.com/atoll-mesh/atoll/api/client"
)

// Values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// applying is one run of apply.
type applying struct {
	*app
	cl     *client
	dryRun string
}

func (a *app) applyCmd() *cobra.Command {
	var files []string
	var vars map[string]string
	var dryRun string
	var prune pruning
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or replace resources",
		Long: `Create or replace resources, in the order of the files.

FILE is a file of YAML or JSON documents, a folder (its .yaml, .yml and .json
files in order of their names), a URL, or - for standard input. All documents
are read and checked for syntax before the first one is sent.

--dry-run=client prints what would be sent. --dry-run=server has the server check
everything and say what would change, and changes nothing.

--prune deletes what was applied before and is no longer in the files. The files
own what carries the labels of --selector: every document has to carry them, and
whatever else carries them on the server is deleted. With --dry-run it is only
listed. More than --prune-limit deletions, or the deletion of everything that is
owned, are refused before anything is changed.`,
		Example: `  atollctl apply -f timeout.yaml
  atollctl apply -f policies/ -v zone=east
  atollctl apply -f policies/ --dry-run=server
  atollctl apply -f policies/ --prune --selector team=payments
  echo '{"type":"Mesh","name":"shop"}' | atollctl apply -f -`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dryRun != dryRunNone && dryRun != dryRunClient && dryRun != dryRunServer {
				return failWith(exitUsage, "unknown --dry-run %q; choose %s, %s or %s", dryRun, dryRunNone, dryRunClient, dryRunServer)
			}
			docs, err := a.documents(cmd.Context(), files, vars)
			if err != nil {
				return err
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			run := &applying{a, cl, dryRun}
			if dryRun == dryRunServer {
				if err := cl.mustDryRun(cmd.Context()); err != nil {
					return err
				}
			}
			var old []owned
			if prune.on {
				if old, err = a.prunable(cmd.Context(), cl, docs, &prune); err != nil {
					return err
				}
			}
			if err := run.apply(cmd.Context(), docs); err != nil {
				return err // what is not there must not decide what goes
			}
			return run.prune(cmd.Context(), old)
		},
	}
	fileFlags(c, &files, &vars, "apply")
	c.Flags().StringVar(&dryRun, "dry-run", dryRunNone, "none, client or server")
	c.Flags().Lookup("dry-run").NoOptDefVal = dryRunClient
	c.Flags().BoolVar(&prune.on, "prune", false, "delete what the files own and no longer hold")
	c.Flags().StringToStringVar(&prune.selector, "selector", nil, "labels of what the files own: key=value")
	c.Flags().IntVar(&prune.limit, "prune-limit", 10, "refuse to delete more than this many")
	a.meshFlag(c)
	return c
}

func fileFlags(c *cobra.Command, files *[]string, vars *map[string]string, verb string) {
	c.Flags().StringSliceVarP(files, "file", "f", nil, "file, folder, URL or - to "+verb+" (may be repeated)")
	c.Flags().StringToStringVarP(vars, "var", "v", nil, "value of a variable {{ name }} in the files: name=value")
}

// documents reads files of which there has to be at least one resource.
func (a *app) documents(ctx context.Context, files []string, vars map[string]string) ([]*document, error) {
	if len(files) == 0 {
		return nil, failWith(exitUsage, "the file is missing; give it with -f FILE")
	}
	docs, err := a.readDocuments(ctx, files, vars)
	if err == nil && len(docs) == 0 {
		err = failWith(exitUsage, "%s holds no resource", strings.Join(files, ", "))
	}
	return docs, err
}

// apply sends every document and goes on after one that is refused, so that one
// bad resource does not hold back the others. The exit code is that of the
// first failure.
func (a *applying) apply(ctx context.Context, docs []*document) error {
	return a.each(docs, "applied", func(d *document) error { return a.applyOne(ctx, d) })
}

// each does something with every document, also after failures.
func (a *app) each(docs []*document, done string, do func(*document) error) error {
	var first error
	failed := 0
	for _, d := range docs {
		err := do(d)
		if err == nil {
			continue
		}
		failed++
		if first == nil {
			first = err
		} else {
			fmt.Fprintln(a.err, "Error:", err)
		}
		var e *exitError
		if errors.As(err, &e) && (e.code == exitUnreachable || e.code == exitDenied) {
			break // the others would fare no better
		}
	}
	if first != nil && len(docs) > 1 {
		fmt.Fprintf(a.err, "%d of %d resources were not %s\n", failed, len(docs), done)
	}
	return first
}

// target is the resource that a document is about.
type target struct {
	kind       kindInfo
	mesh, name string
}

// path is where the resource is.
func (t target) path() string {
	if t.kind.Scope == "Mesh" {
		return "/meshes/" + t.mesh + "/" + t.kind.Path + "/" + t.name
	}
	return "/" + t.kind.Path + "/" + t.name
}

func (t target) String() string {
	if t.kind.Scope == "Mesh" {
		return t.kind.Name + " " + t.mesh + "/" + t.name
	}
	return t.kind.Name + " " + t.name
}

// targetOf finds what a document is about, and gives it the mesh of the flags if
// it names none.
func (a *app) targetOf(ctx context.Context, cl *client, d *document) (target, error) {
	typeName, _ := d.value["type"].(string)
	if typeName == "" {
		return target{}, failWith(exitRejected, "%s: the resource has no type; it looks like 'type: MeshTimeout'", d.at("type"))
	}
	k, err := cl.kindByName(ctx, typeName)
	if err != nil {
		var e *exitError
		if errors.As(err, &e) && e.code == exitUsage {
			return target{}, failWith(exitRejected, "%s: %w", d.at("type"), e.err)
		}
		return target{}, err
	}
	name, _ := d.value["name"].(string)
	if name == "" {
		return target{}, failWith(exitRejected, "%s: the %s has no name", d.at("name"), k.Name)
	}
	mesh, _ := d.value["mesh"].(string)
	if k.Scope == "Mesh" && mesh == "" {
		mesh = a.mesh
		d.value["mesh"] = mesh
	}
	return target{k, mesh, name}, nil
}

func (a *applying) applyOne(ctx context.Context, d *document) error {
	t, err := a.targetOf(ctx, a.cl, d)
	if err != nil {
		return err
	}
	body, err := json.Marshal(d.value)
	if err != nil {
		return err
	}
	if a.dryRun == dryRunClient {
		fmt.Fprintln(a.out, "---")
		return a.printDocument(body)
	}
	before, err := t.get(ctx, a.cl)
	if err != nil && !isNotFound(err) {
		return err
	}
	var options []api.Option
	note := ""
	if a.dryRun == dryRunServer {
		options, note = append(options, api.WithDryRun(true)), " (server dry run)"
	}
	answer, err := t.put(ctx, a.cl, body, options...)
	if err != nil {
		return d.locate(err)
	}
	verb := "updated"
	if before.body == nil {
		verb = "created"
	}
	fmt.Fprintf(a.out, "%s %s%s\n", t, verb, note)
	if a.dryRun == dryRunServer {
		a.showEffect(answer)
	}
	var warn struct{ Warnings []string }
	if json.Unmarshal(answer, &warn) == nil {
		for _, w := range warn.Warnings {
			fmt.Fprintf(a.err, "Warning: %s: %s\n", d.source, w)
		}
	}
	return nil
}

// showEffect prints what a server said that a write would do.
func (a *app) showEffect(answer []byte) {
	var effect map[string]json.RawMessage
	if json.Unmarshal(answer, &effect) != nil {
		return
	}
	delete(effect, "warnings")
	if len(effect) == 0 {
		return
	}
	b, _ := json.Marshal(effect)
	var text strings.Builder
	shown := *a
	shown.out = &text
	if shown.printDocument(b) != nil {
		return
	}
	for line := range strings.Lines(text.String()) {
		fmt.Fprint(a.out, "  ", line)
	}
}

// locate adds to a rejection where in the file each field stands.
func (d *document) locate(err error) error {
	var p *problem
	if !errors.As(err, &p) || p.Status == http.StatusUnauthorized || p.Status == http.StatusForbidden {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", d.at(""), p.Title)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for _, v := range p.Parameters {
		fmt.Fprintf(&b, "\n  %s: %s: %s", d.at(v.Field), v.Field, v.Reason)
	}
	return &exitError{p.code(), errors.New(b.String())}
}
