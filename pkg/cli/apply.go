package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) applyCmd() *cobra.Command {
	var files []string
	var vars map[string]string
	var dryRun bool
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or replace resources",
		Long: `Create or replace resources, in the order of the files.

FILE is a file of YAML or JSON documents, a folder (its .yaml, .yml and .json
files in order of their names), a URL, or - for standard input. All documents
are read and checked for syntax before the first one is sent.`,
		Example: `  atollctl apply -f timeout.yaml
  atollctl apply -f policies/ -v zone=east
  echo '{"type":"Mesh","name":"shop"}' | atollctl apply -f -`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(files) == 0 {
				return failWith(exitUsage, "what to apply is missing; give it with -f FILE")
			}
			docs, err := a.readDocuments(files, vars)
			if err != nil {
				return err
			}
			if len(docs) == 0 {
				return failWith(exitUsage, "%s holds no resource", strings.Join(files, ", "))
			}
			cl, err := a.connect()
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), cl, docs, dryRun)
		},
	}
	c.Flags().StringSliceVarP(&files, "file", "f", nil, "file, folder, URL or - (may be repeated)")
	c.Flags().StringToStringVarP(&vars, "var", "v", nil, "value of a variable {{ name }} in the files: name=value")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be sent and send nothing")
	a.meshFlag(c)
	return c
}

// apply sends every document and goes on after one that is refused, so that one
// bad resource does not hold back the others. The exit code is that of the
// first failure.
func (a *app) apply(ctx context.Context, cl *client, docs []*document, dryRun bool) error {
	var first error
	failed := 0
	for _, d := range docs {
		err := a.applyOne(ctx, cl, d, dryRun)
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
		fmt.Fprintf(a.err, "%d of %d resources were not applied\n", failed, len(docs))
	}
	return first
}

func (a *app) applyOne(ctx context.Context, cl *client, d *document, dryRun bool) error {
	typeName, _ := d.value["type"].(string)
	if typeName == "" {
		return failWith(exitRejected, "%s: the resource has no type; it looks like 'type: MeshTimeout'", d.at("type"))
	}
	k, err := cl.kindByName(ctx, typeName)
	if err != nil {
		var e *exitError
		if errors.As(err, &e) && e.code == exitUsage {
			return failWith(exitRejected, "%s: %w", d.at("type"), e.err)
		}
		return err
	}
	name, _ := d.value["name"].(string)
	if name == "" {
		return failWith(exitRejected, "%s: the %s has no name", d.at("name"), k.Name)
	}
	mesh, _ := d.value["mesh"].(string)
	if k.Scope == "Mesh" && mesh == "" {
		mesh = a.mesh
		d.value["mesh"] = mesh
	}
	body, err := json.Marshal(d.value)
	if err != nil {
		return err
	}
	if dryRun {
		return a.printDocument(body)
	}
	path := k.itemPath(mesh, name)
	before, err := cl.do(ctx, "GET", path, nil)
	if err != nil && !isNotFound(err) {
		return err
	}
	answer, err := cl.do(ctx, "PUT", path, body)
	if err != nil {
		return d.locate(err)
	}
	verb := "updated"
	if before == nil {
		verb = "created"
	}
	where := name
	if k.Scope == "Mesh" {
		where = mesh + "/" + name
	}
	fmt.Fprintf(a.out, "%s %s %s\n", k.Name, where, verb)
	var warn struct{ Warnings []string }
	if json.Unmarshal(answer, &warn) == nil {
		for _, w := range warn.Warnings {
			fmt.Fprintf(a.err, "Warning: %s: %s\n", d.source, w)
		}
	}
	return nil
}

// locate adds to a rejection where in the file each field stands.
func (d *document) locate(err error) error {
	var p *problem
	if !errors.As(err, &p) {
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

func (a *app) deleteCmd() *cobra.Command {
	c := &cobra.Command{
		Use:     "delete TYPE NAME",
		Short:   "Delete a resource",
		Example: `  atollctl delete meshtimeout slow-reports -m shop`,
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, given []string) error {
			cl, err := a.connect()
			if err != nil {
				return err
			}
			k, err := cl.kindByName(cmd.Context(), given[0])
			if err != nil {
				return err
			}
			if _, err := cl.do(cmd.Context(), "DELETE", k.itemPath(a.mesh, given[1]), nil); err != nil {
				if isNotFound(err) {
					return failWith(exitNotFound, "there is no %s with name %q", k.Name, given[1])
				}
				return err
			}
			fmt.Fprintf(a.out, "%s %s deleted\n", k.Name, given[1])
			return nil
		},
	}
	a.meshFlag(c)
	return c
}
