package config

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// Prefix starts the name of every environment variable.
const Prefix = "ATOLL_"

// Load makes the tree from defaults, then the file (YAML or JSON; none when the
// path is empty), then the environment, of which environ is the list that
// os.Environ gives. The result is complete and valid, or the error is of type
// Errors when settings are wrong. Warnings name settings that have no effect.
func Load(file string, environ []string) (cfg *Config, warnings []string, err error) {
	cfg = Default()
	l := loader{root: reflect.ValueOf(cfg).Elem()}
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("read the configuration file: %w", err)
		}
		if err := l.file(b); err != nil {
			return nil, nil, fmt.Errorf("configuration file %s: %w", file, err)
		}
	}
	env := make(map[string]string, len(environ))
	for _, pair := range environ {
		if name, v, ok := strings.Cut(pair, "="); ok {
			env[name] = v
		}
	}
	l.env(env)
	if len(l.errs) > 0 {
		return nil, l.warnings, l.errs
	}
	l.idle("", l.root, reflect.ValueOf(Default()).Elem())
	cfg.complete(func(name string) string { return env[name] })
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, l.warnings, errs
	}
	return cfg, l.warnings, nil
}

type loader struct {
	root     reflect.Value
	errs     Errors
	warnings []string
}

func (l *loader) warn(format string, args ...any) {
	l.warnings = append(l.warnings, fmt.Sprintf(format, args...))
}

func (l *loader) file(b []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(doc.Content) == 0 { // an empty file says nothing
		return nil
	}
	l.node("", doc.Content[0], l.root)
	return nil
}

// node stores a value of the file into v, which is at path.
func (l *loader) node(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.ShortTag() == "!!null" { // a key without value keeps the default
		return
	}
	wrong := func(want string) {
		l.errs.Add(path, "must be %s (line %d)", want, n.Line)
	}
	if isLeaf(v.Type()) {
		if n.Kind != yaml.ScalarNode {
			wrong(describe(v.Type()))
			return
		}
		if err := setText(v, n.Value); err != nil {
			l.errs.Add(path, "%s (line %d)", err, n.Line)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			wrong("a map of settings")
			return
		}
		fields := fieldsOf(v.Type())
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]
			at := join(path, key)
			f := findField(fields, key)
			if f == nil {
				l.unknown(at, n.Content[i].Line)
				continue
			}
			l.node(join(path, f.name), value, v.FieldByIndex(f.index))
		}
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			wrong("a list")
			return
		}
		list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
		for i, item := range n.Content {
			l.node(fmt.Sprintf("%s[%d]", path, i), item, list.Index(i))
		}
		v.Set(list)
	}
}

func (l *loader) unknown(path string, line int) {
	if reason, ok := inert(path); ok {
		l.warn("%s (line %d) has no effect: %s", path, line, reason)
		return
	}
	l.warn("%s (line %d) is not a setting and has no effect", path, line)
}

// idle warns of what was set although nothing reads it.
func (l *loader) idle(path string, set, unset reflect.Value) {
	if set.Kind() == reflect.Struct && !isLeaf(set.Type()) {
		for _, f := range fieldsOf(set.Type()) {
			l.idle(join(path, f.name), set.FieldByIndex(f.index), unset.FieldByIndex(f.index))
		}
		return
	}
	if reason, ok := inert(path); ok && !reflect.DeepEqual(set.Interface(), unset.Interface()) {
		l.warn("%s has no effect: %s", path, reason)
	}
}

// env stores variables, of which the documented name wins over its aliases.
func (l *loader) env(env map[string]string) {
	known := map[string]bool{}
	stems := map[string]bool{}
	var walk func(path, stem string, aliases []string, v reflect.Value)
	walk = func(path, stem string, aliases []string, v reflect.Value) {
		if v.Kind() == reflect.Struct && !isLeaf(v.Type()) {
			for _, f := range fieldsOf(v.Type()) {
				sub, subAliases := f.variables(stem, aliases)
				walk(join(path, f.name), sub, subAliases, v.FieldByIndex(f.index))
			}
			return
		}
		for _, name := range append([]string{stem}, aliases...) {
			known[Prefix+name] = true
			text, ok := env[Prefix+name]
			if !ok {
				continue
			}
			if err := setText(v, text); err != nil {
				l.errs.Add(path, "%s (from %s)", err, Prefix+name)
			}
			return
		}
	}
	for _, f := range fieldsOf(l.root.Type()) {
		stem, aliases := f.variables("", nil)
		if v := l.root.FieldByIndex(f.index); v.Kind() == reflect.Struct {
			stems[Prefix+stem+"_"] = true
			walk(f.name, stem, aliases, v)
		} else {
			walk(f.name, stem, aliases, v)
		}
	}
	var unknown []string
	for name := range env {
		if known[name] {
			continue
		}
		for stem := range stems {
			if strings.HasPrefix(name, stem) {
				unknown = append(unknown, name)
				break
			}
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		l.warn("environment variable %s is not a setting of the control plane and has no effect", name)
	}
}

type field struct {
	name    string // key in files
	stem    string // part of a variable's name
	whole   bool   // stem is the complete name after the prefix
	aliases []string
	index   []int
}

// fieldsOf lists the settings of a struct, embedded ones included.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for _, sub := range fieldsOf(f.Type) {
				sub.index = append([]int{i}, sub.index...)
				all = append(all, sub)
			}
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		out := field{name: name, stem: f.Tag.Get("env"), index: []int{i}}
		if out.stem == "" {
			out.stem = upperSnake(name)
		}
		if rest, ok := strings.CutPrefix(out.stem, "="); ok {
			out.stem, out.whole = rest, true
		}
		if a := f.Tag.Get("alias"); a != "" {
			out.aliases = strings.Split(a, ",")
		}
		all = append(all, out)
	}
	return all
}

// variables names the variable of a field, and its aliases, below its parent.
func (f *field) variables(parent string, parentAliases []string) (string, []string) {
	stem := f.stem
	if parent != "" && !f.whole {
		stem = parent + "_" + stem
	}
	aliases := slices.Clone(f.aliases)
	for _, a := range parentAliases {
		aliases = append(aliases, a+"_"+f.stem)
	}
	return stem, aliases
}

// findField accepts another case too: files written by the reference spell some
// keys in their own way.
func findField(fields []field, key string) *field {
	for i := range fields {
		if fields[i].name == key {
			return &fields[i]
		}
	}
	for i := range fields {
		if strings.EqualFold(fields[i].name, key) {
			return &fields[i]
		}
	}
	return nil
}

// upperSnake turns tlsCertFile into TLS_CERT_FILE and dnsCacheTTL into
// DNS_CACHE_TTL.
func upperSnake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) {
			afterLower := !unicode.IsUpper(runes[i-1])
			startsWord := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if afterLower || startsWord {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToUpper(r))
	}
	return b.String()
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func isLeaf(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(textType) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int64:
		return true
	}
	return false
}

func describe(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return "a duration such as 30s"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64:
		return "a whole number"
	}
	return "a string"
}

// setText stores what a file or variable says; lists are comma separated.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("must be true or false, got %q", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("must be a whole number, got %q", text)
		}
		v.SetInt(n)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			return errors.New("can only be set in a file")
		}
		list := []string{}
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		v.Set(reflect.ValueOf(list))
	}
	return nil
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
