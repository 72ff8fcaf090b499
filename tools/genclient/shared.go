package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// shared collects the operations that several kinds have in the same way, for
// callers who learn from a server which kinds there are.
type shared struct {
	kinds map[string]bool // segments of paths that name kinds
	of    map[sharedKey]*sharedOperation
}

type sharedKey struct{ path, method string }

type sharedOperation struct {
	kinds   int
	body    bool
	list    bool // the answer is a page of a list
	summary string
}

func newShared(d *document) *shared {
	s := &shared{kinds: map[string]bool{}, of: map[sharedKey]*sharedOperation{}}
	for path, item := range d.Paths {
		var op operation
		if json.Unmarshal(item["get"], &op) != nil || len(op.Tags) != 1 || d.Components.Schemas[op.Tags[0]] == nil {
			continue
		}
		if at := kindAt(path); at != "" && !strings.HasPrefix(at, "{") {
			s.kinds[at] = true
		}
	}
	return s
}

// kindAt is the segment of a path where a kind may be.
func kindAt(path string) string {
	_, rest, found := strings.Cut(path, "/meshes/{mesh}/")
	if !found {
		rest = strings.TrimPrefix(path, "/")
	}
	at, _, _ := strings.Cut(rest, "/")
	return at
}

func (s *shared) add(method, path string, op *operation) {
	at := kindAt(path)
	if !s.kinds[at] {
		return
	}
	key := sharedKey{strings.Replace(path, "/"+at, "/{kind}", 1), method}
	if strings.HasPrefix(path, "/meshes/{mesh}/") {
		key.path = "/meshes/{mesh}" + strings.Replace(strings.TrimPrefix(path, "/meshes/{mesh}"), "/"+at, "/{kind}", 1)
	}
	o := s.of[key]
	if o == nil {
		o = &sharedOperation{body: op.RequestBody != nil, summary: op.Summary}
		s.of[key] = o
	}
	o.kinds++
	if answer := op.Responses["200"].Content["application/json"].Schema; answer != nil {
		o.list = answer.Properties["items"] != nil && answer.Properties["next"] != nil
	}
}

// write adds a method for each operation that more than one kind has, that lists,
// or that shows a resource. Resources go as they are.
func (s *shared) write(g *generator) {
	keys := slices.SortedFunc(maps.Keys(s.of), func(a, b sharedKey) int {
		return strings.Compare(a.path+" "+a.method, b.path+" "+b.method)
	})
	for _, k := range keys {
		o := s.of[k]
		if o.kinds < 2 && !o.list && !strings.HasSuffix(k.path, "/_overview") {
			continue
		}
		name := exported(strings.ToLower(k.method) + " " + strings.NewReplacer("/_", "/its ", "/-", "/the ", "+", " with ").Replace(k.path))
		if _, after, ok := strings.Cut(o.summary, "of the kind "); ok {
			o.summary = strings.TrimSuffix(o.summary, after) + "given."
		}
		var arguments, values string
		for part := range strings.SplitSeq(k.path, "/") {
			if arg, ok := strings.CutPrefix(part, "{"); ok {
				arg = unexported(strings.TrimSuffix(arg, "}"))
				arguments += ", " + arg + " string"
				values += ", " + arg
			}
		}
		body, answer := "nil", "json.RawMessage"
		if o.body {
			arguments += ", body json.RawMessage"
			body = "body"
		}
		if o.list {
			answer = "List"
		}
		g.comment(name + ": " + o.summary + " The kind is the segment of its paths.")
		fmt.Fprintf(g, "//\n// %s %s\nfunc (c *Client) %s(ctx context.Context%s, options ...Option) (%s, error) {\n\treturn call[%s](ctx, c, %q, fill(%q%s), %s, options)\n}\n\n",
			k.method, k.path, name, arguments, answer, answer, k.method, k.path, values, body)
	}
}
