package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A template prints parts of a document, as kubectl's jsonpath does: text, with
// paths in braces such as {.items[*].name} or {.labels['kuma.io/zone']}, strings
// such as {"\n"}, and {range .items[*]}…{end}.
type template []templatePart

type templatePart struct {
	text string     // printed as it is, unless steps or body
	path []pathPart // printed: what it leads to
	body template   // printed once for each that path leads to
}

// pathPart is one step: a member, an index, or all.
type pathPart struct {
	member string
	index  *int
	all    bool
}

func parseTemplate(text string) (template, error) {
	t, rest, err := parseParts(text, false)
	if err == nil && rest != "" {
		err = fmt.Errorf("{end} without {range}")
	}
	if err != nil {
		return nil, failWith(exitUsage, "jsonpath: %w; it looks like {.items[*].name}", err)
	}
	return t, nil
}

// parseParts reads up to {end} within a range, else all.
func parseParts(text string, within bool) (t template, rest string, err error) {
	for text != "" {
		before, after, ok := strings.Cut(text, "{")
		if before != "" {
			t = append(t, templatePart{text: before})
		}
		if !ok {
			text = ""
			break
		}
		inner, tail, ok := strings.Cut(after, "}")
		if !ok {
			return nil, "", fmt.Errorf("%q is not closed", "{"+after)
		}
		inner, text = strings.TrimSpace(inner), tail
		switch {
		case inner == "end":
			if !within {
				return t, "{end}", nil
			}
			return t, text, nil
		case strings.HasPrefix(inner, "range "):
			part := templatePart{}
			if part.path, err = parsePath(strings.TrimSpace(inner[len("range "):])); err != nil {
				return nil, "", err
			}
			if part.body, text, err = parseParts(text, true); err != nil {
				return nil, "", err
			}
			t = append(t, part)
		case strings.HasPrefix(inner, `"`):
			s, err := strconv.Unquote(inner)
			if err != nil {
				return nil, "", fmt.Errorf("%s is no string", inner)
			}
			t = append(t, templatePart{text: s})
		default:
			path, err := parsePath(inner)
			if err != nil {
				return nil, "", err
			}
			t = append(t, templatePart{path: path})
		}
	}
	if within {
		return nil, "", fmt.Errorf("{range} without {end}")
	}
	return t, "", nil
}

// parsePath reads .a.b[0]['c d'][*].
func parsePath(text string) ([]pathPart, error) {
	whole := text
	path := []pathPart{}
	text = strings.TrimPrefix(strings.TrimPrefix(text, "$"), "@")
	for text != "" && text != "." {
		switch {
		case text[0] == '.':
			end := strings.IndexAny(text[1:], ".[")
			if end < 0 {
				end = len(text) - 1
			}
			name := text[1 : 1+end]
			if name == "" && !strings.HasPrefix(text, ".[") {
				return nil, fmt.Errorf("%q names no member after a dot", whole)
			}
			text = text[1+end:]
			if name == "*" {
				path = append(path, pathPart{all: true})
			} else if name != "" {
				path = append(path, pathPart{member: name})
			}
		case text[0] == '[':
			inner, after, ok := strings.Cut(text[1:], "]")
			if !ok {
				return nil, fmt.Errorf("%q has a [ without ]", whole)
			}
			text = after
			switch quoted := strings.Trim(inner, `'"`); {
			case inner == "*":
				path = append(path, pathPart{all: true})
			case quoted != inner:
				path = append(path, pathPart{member: quoted})
			default:
				n, err := strconv.Atoi(inner)
				if err != nil {
					return nil, fmt.Errorf("[%s] is neither a number, a quoted name nor *", inner)
				}
				path = append(path, pathPart{index: &n})
			}
		default:
			return nil, fmt.Errorf("%q must begin with a dot", whole)
		}
	}
	return path, nil
}

// render prints the template for a document.
func (t template) render(b *strings.Builder, doc any) {
	for _, p := range t {
		if p.path == nil {
			b.WriteString(p.text)
			continue
		}
		found := follow(doc, p.path)
		for i, v := range found {
			if p.body != nil {
				p.body.render(b, v)
				continue
			}
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(printed(v))
		}
	}
}

// follow returns what a path leads to; nothing when a member is absent.
func follow(v any, path []pathPart) []any {
	if len(path) == 0 {
		return []any{v}
	}
	p, rest := path[0], path[1:]
	var out []any
	switch v := v.(type) {
	case map[string]any:
		if p.all {
			for _, name := range slices.Sorted(maps.Keys(v)) {
				out = append(out, follow(v[name], rest)...)
			}
		} else if got, ok := v[p.member]; ok && p.index == nil {
			out = follow(got, rest)
		}
	case []any:
		switch {
		case p.all:
			for _, e := range v {
				out = append(out, follow(e, rest)...)
			}
		case p.index != nil:
			i := *p.index
			if i < 0 {
				i += len(v)
			}
			if i >= 0 && i < len(v) {
				out = follow(v[i], rest)
			}
		}
	}
	return out
}

// printed is text as it is, anything else as JSON.
func printed(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// printPath prints what -o jsonpath=… asks for of a document.
func (a *app) printPath(doc []byte) error {
	_, text, _ := strings.Cut(a.output, "=")
	t, err := parseTemplate(text)
	if err != nil {
		return err
	}
	v, err := decodeNumbers(doc)
	if err != nil {
		return err
	}
	var b strings.Builder
	t.render(&b, v)
	out := b.String()
	if !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	_, err = fmt.Fprint(a.out, out)
	return err
}

// decodeNumbers decodes JSON and keeps numbers as they are written.
func decodeNumbers(b []byte) (v any, err error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	return v, d.Decode(&v)
}
