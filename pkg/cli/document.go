package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/atoll-mesh/atoll/pkg/resource"
)

// document is one resource of a file, with the place where each part stands.
type document struct {
	source string // file name, or "stdin"
	node   *yaml.Node
	value  map[string]any
}

// at gives file:line:column of the part of the document that a field path names,
// or of the nearest part above it that exists.
func (d *document) at(field string) string {
	n := d.node
	for _, step := range pathSteps(field) {
		child := childNode(n, step)
		if child == nil {
			break
		}
		n = child
	}
	return fmt.Sprintf("%s:%d:%d", d.source, n.Line, n.Column)
}

var pathStep = regexp.MustCompile(`\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.\[\]]+)`)

// pathSteps splits spec.to[0].labels["a.b"] into its parts.
func pathSteps(field string) []string {
	var steps []string
	for _, m := range pathStep.FindAllStringSubmatch(field, -1) {
		steps = append(steps, m[1]+m[2]+m[3])
	}
	return steps
}

func childNode(n *yaml.Node, step string) *yaml.Node {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == step {
				return n.Content[i+1]
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
	case yaml.AliasNode:
		return childNode(n.Alias, step)
	}
	return nil
}

// readDocuments reads every document of the files, folders, URLs or "-" given.
func (a *app) readDocuments(ctx context.Context, paths []string, vars map[string]string) ([]*document, error) {
	var docs []*document
	for _, p := range paths {
		files, err := expand(p)
		if err != nil {
			return nil, failWith(exitUsage, "%w", err)
		}
		for _, f := range files {
			b, name, err := a.readSource(ctx, f)
			if ctx.Err() != nil {
				return nil, ctx.Err() // the person at the keyboard had enough
			}
			if err != nil {
				return nil, failWith(exitUsage, "%w", err)
			}
			if b, err = substitute(b, name, vars); err != nil {
				return nil, err
			}
			ds, err := parseDocuments(b, name)
			if err != nil {
				return nil, err
			}
			docs = append(docs, ds...)
		}
	}
	return docs, nil
}

// expand lists the YAML and JSON files of a folder, in order of their names;
// anything else stands for itself.
func expand(path string) ([]string, error) {
	if path == "-" || strings.HasPrefix(path, "http://") || strings.HasPrefix(path, "https://") {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var files []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(p); err == nil && !d.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, ext) {
			files = append(files, p)
		}
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s holds no .yaml, .yml or .json file", path)
	}
	return files, err
}

func (a *app) readSource(ctx context.Context, path string) (content []byte, name string, err error) {
	switch {
	case path == "-":
		content, err = a.readInput(ctx)
		return content, "stdin", err
	case strings.HasPrefix(path, "http://"), strings.HasPrefix(path, "https://"):
		content, err = a.download(ctx, path)
		return content, path, err
	}
	content, err = os.ReadFile(path)
	return content, path, err
}

// readInput reads standard input, which may never end, until ctx does.
func (a *app) readInput(ctx context.Context) ([]byte, error) {
	var content []byte
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		content, err = io.ReadAll(a.in)
	}()
	select {
	case <-done:
		return content, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// download gets a file from some server, without the token of the control plane.
func (a *app) download(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Timeout: a.timeout}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

var variable = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_.-]+)\s*\}\}`)

// substitute replaces {{ name }} by the variables given with -v. Without
// variables nothing is replaced, because templates of hostnames look the same.
func substitute(b []byte, source string, vars map[string]string) ([]byte, error) {
	if len(vars) == 0 {
		return b, nil
	}
	var missing []string
	out := variable.ReplaceAllFunc(b, func(m []byte) []byte {
		key := string(variable.FindSubmatch(m)[1])
		v, ok := vars[key]
		if !ok {
			missing = append(missing, key)
		}
		return []byte(v)
	})
	if len(missing) > 0 {
		return nil, failWith(exitUsage, "%s: no value for %s; give it with -v %s=…", source, strings.Join(missing, ", "), missing[0])
	}
	return out, nil
}

// parseDocuments reads YAML, of which JSON is a part. Empty documents are left
// out. Errors name line and column.
func parseDocuments(b []byte, source string) ([]*document, error) {
	if json.Valid(b) {
		// Same result, but tabs and other things that YAML refuses are fine.
		b = bytes.ReplaceAll(b, []byte("\t"), []byte(" "))
	} else if trimmed := bytes.TrimSpace(b); len(trimmed) > 0 && trimmed[0] == '{' && strings.HasSuffix(source, ".json") {
		return nil, jsonSyntax(b, source)
	}
	var docs []*document
	dec := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return docs, nil
		}
		if err != nil {
			return nil, yamlSyntax(b, source, err)
		}
		root := n.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			continue
		}
		if root.Kind != yaml.MappingNode {
			return nil, failWith(exitRejected, "%s:%d:%d: a resource is an object with type, name and spec; this is something else", source, root.Line, root.Column)
		}
		v, err := plain(root, source)
		if err != nil {
			return nil, err
		}
		docs = append(docs, &document{source: source, node: root, value: v.(map[string]any)})
	}
}

func jsonSyntax(b []byte, source string) error {
	var v any
	err := json.Unmarshal(b, &v)
	var s *json.SyntaxError
	if !errors.As(err, &s) {
		return failWith(exitRejected, "%s: %w", source, err)
	}
	before := b[:min(int(s.Offset), len(b))]
	line := 1 + bytes.Count(before, []byte("\n"))
	col := len(before) - bytes.LastIndexByte(before, '\n') - 1
	return failWith(exitRejected, "%s:%d:%d: %w", source, line, max(col, 1), err)
}

// yamlSyntax says where and why a text is no YAML. The library names the line
// only; the column is then that of the first character on it.
func yamlSyntax(b []byte, source string, err error) error {
	line, reason := resource.YAMLSyntax(err)
	lines := strings.Split(string(b), "\n")
	col := 1
	if line <= len(lines) {
		l := lines[line-1]
		col = len(l) - len(strings.TrimLeft(l, " \t")) + 1
	}
	return failWith(exitRejected, "%s:%d:%d: %s", source, line, col, reason)
}

// maxNodes bounds what one document may grow to through aliases, so that a few
// lines cannot fill the memory.
const maxNodes = 1_000_000

// plainer turns nodes into what encoding/json would have decoded.
type plainer struct {
	source string
	nodes  int
	within map[*yaml.Node]bool // anchors being expanded
}

func plain(n *yaml.Node, source string) (any, error) {
	p := &plainer{source: source, within: map[*yaml.Node]bool{}}
	return p.value(n)
}

func (p *plainer) reject(n *yaml.Node, format string, args ...any) error {
	return failWith(exitRejected, "%s:%d:%d: %s", p.source, n.Line, n.Column, fmt.Sprintf(format, args...))
}

func (p *plainer) value(n *yaml.Node) (any, error) {
	if p.nodes++; p.nodes > maxNodes {
		return nil, p.reject(n, "the document is too large with its aliases expanded")
	}
	switch n.Kind {
	case yaml.AliasNode:
		if p.within[n.Alias] {
			return nil, p.reject(n, "the alias *%s contains itself", n.Value)
		}
		p.within[n.Alias] = true
		defer delete(p.within, n.Alias)
		return p.value(n.Alias)
	case yaml.SequenceNode:
		if n.Anchor != "" {
			p.within[n] = true
			defer delete(p.within, n)
		}
		list := make([]any, len(n.Content))
		for i, c := range n.Content {
			v, err := p.value(c)
			if err != nil {
				return nil, err
			}
			list[i] = v
		}
		return list, nil
	case yaml.MappingNode:
		if n.Anchor != "" {
			p.within[n] = true
			defer delete(p.within, n)
		}
		return p.mapping(n)
	}
	return p.scalar(n)
}

func (p *plainer) mapping(n *yaml.Node) (any, error) {
	m := make(map[string]any, len(n.Content)/2)
	var merged []map[string]any
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			return nil, p.reject(key, "a key must be a string")
		}
		v, err := p.value(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		if key.Tag == "!!merge" {
			if from, ok := v.(map[string]any); ok {
				merged = append(merged, from)
				continue
			}
		}
		if _, twice := m[key.Value]; twice {
			return nil, p.reject(key, "the key %q stands here twice", key.Value)
		}
		m[key.Value] = v
	}
	for _, from := range merged {
		for k, v := range from {
			if _, set := m[k]; !set {
				m[k] = v
			}
		}
	}
	return m, nil
}

func (p *plainer) scalar(n *yaml.Node) (any, error) {
	switch n.Tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		var v bool
		err := n.Decode(&v)
		return v, err
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value), nil
		}
		var v float64
		if err := n.Decode(&v); err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
			return nil, p.reject(n, "%q is no number that JSON can hold", n.Value)
		}
		return v, nil
	}
	return n.Value, nil
}
