// Command describe writes the doc comments of the types of all kinds to
// pkg/rest/descriptions.json, from where they get into the OpenAPI document and
// "atollctl explain". Keys are kind and path, such as MeshTimeout.spec.to.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"

	"google.golang.org/protobuf/proto"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

const (
	module = "github.com/atoll-mesh/atoll"
	output = "pkg/rest/descriptions.json"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "describe:", err)
		os.Exit(1)
	}
}

func run() error {
	b, err := describe(".")
	if err != nil {
		return err
	}
	return os.WriteFile(output, b, 0o644)
}

// describe makes the file from the source in a folder.
func describe(root string) ([]byte, error) {
	kinds := kind.All()
	for _, d := range all.Policies() {
		kinds = append(kinds, d.Kind())
	}
	d := &describer{root: root, packages: map[string]map[string]*typeDoc{}, out: map[string]string{}}
	for _, k := range kinds {
		path := string(k.Type)
		if !k.Proto {
			path += ".spec"
		}
		if err := d.walk(reflect.TypeOf(k.NewSpec()), path, 0); err != nil {
			return nil, err
		}
		if status := k.NewStatus(); status != nil && !k.Proto {
			if err := d.walk(reflect.TypeOf(status), string(k.Type)+".status", 0); err != nil {
				return nil, err
			}
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b) // keys in order
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(d.out)
	return b.Bytes(), err
}

// typeDoc is what the source says about a type and its fields.
type typeDoc struct {
	text   string
	fields map[string]string
}

type describer struct {
	root     string
	packages map[string]map[string]*typeDoc // by import path and name of the type
	out      map[string]string
}

// maxDepth ends messages that contain themselves.
const maxDepth = 12

var schemer = reflect.TypeFor[resource.Schemer]()

// walk notes what is said about a type and, below it, its fields.
func (d *describer) walk(t reflect.Type, path string, depth int) error {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || depth > maxDepth || t.Implements(schemer) || reflect.PointerTo(t).Implements(schemer) {
		return nil
	}
	if !strings.HasPrefix(t.PkgPath(), module) {
		return nil
	}
	doc, err := d.typeDoc(t)
	if err != nil || doc == nil {
		return err
	}
	if _, said := d.out[path]; !said && doc.text != "" {
		name, _, _ := strings.Cut(t.Name(), "[")
		d.out[path] = unnamed(doc.text, name)
	}
	message := reflect.PointerTo(t).Implements(reflect.TypeFor[proto.Message]())
	for i := range t.NumField() {
		f := t.Field(i)
		name := jsonName(f, message)
		switch {
		case f.Anonymous && name == "":
			if err := d.walk(f.Type, path, depth+1); err != nil {
				return err
			}
			continue
		case name == "" || !f.IsExported():
			continue
		}
		below := path + "." + name
		if text := doc.fields[f.Name]; text != "" {
			d.out[below] = spoken(text, f.Name, name)
		}
		if err := d.walk(f.Type, below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// jsonName is what a field is called in JSON; empty: it is not there.
func jsonName(f reflect.StructField, message bool) string {
	if message {
		name := ""
		for part := range strings.SplitSeq(f.Tag.Get("protobuf"), ",") {
			if v, ok := strings.CutPrefix(part, "json="); ok {
				return v
			}
			if v, ok := strings.CutPrefix(part, "name="); ok {
				name = v
			}
		}
		return name
	}
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "-" {
		return ""
	}
	return name
}

// spoken puts the name that users know in place of the one in Go.
func spoken(text, goName, name string) string {
	text = strings.Join(strings.Fields(text), " ")
	if rest, ok := strings.CutPrefix(text, goName); ok && rest != "" && !unicode.IsLetter(rune(rest[0])) {
		return name + rest
	}
	return text
}

// unnamed leaves out the name of a type, which users never see.
func unnamed(text, goName string) string {
	text = strings.Join(strings.Fields(text), " ")
	rest, ok := strings.CutPrefix(text, goName+" ")
	if !ok || strings.HasPrefix(rest, "of ") {
		return text
	}
	rest = strings.TrimPrefix(strings.TrimPrefix(rest, "is "), "are ")
	return strings.ToUpper(rest[:1]) + rest[1:]
}

// typeDoc finds the comments of a type in its source.
func (d *describer) typeDoc(t reflect.Type) (*typeDoc, error) {
	types := d.packages[t.PkgPath()]
	if types == nil {
		var err error
		if types, err = parsePackage(filepath.Join(d.root, strings.TrimPrefix(t.PkgPath(), module+"/"))); err != nil {
			return nil, err
		}
		d.packages[t.PkgPath()] = types
	}
	name, _, _ := strings.Cut(t.Name(), "[")
	return types[name], nil
}

func parsePackage(dir string) (map[string]*typeDoc, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	out := map[string]*typeDoc{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range file.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.TYPE {
				continue
			}
			for _, spec := range g.Specs {
				t := spec.(*ast.TypeSpec)
				if s, ok := t.Type.(*ast.StructType); ok {
					doc := t.Doc
					if doc == nil {
						doc = g.Doc
					}
					out[t.Name.Name] = &typeDoc{doc.Text(), fieldDocs(s)}
				}
			}
		}
	}
	return out, nil
}

func fieldDocs(s *ast.StructType) map[string]string {
	out := map[string]string{}
	for _, f := range s.Fields.List {
		text := f.Doc.Text()
		if text == "" {
			text = f.Comment.Text()
		}
		for _, name := range f.Names {
			out[name.Name] = text
		}
	}
	return out
}
