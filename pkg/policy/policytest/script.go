// Package policytest runs the scripts that show what a policy does. A script is
// a txtar file whose comment starts with one sentence saying what it shows,
// after a #, followed by commands, one per line:
//
//	proxy LABELS SECTIONS    the proxy from now on: a=b,c=d and name:port,…
//	agent ABILITY…           what its agent can do from now on: otlp takes what is
//	                         for collectors, pipe takes lines for TCP, names puts
//	                         the workload into Envoy's environment
//	apply FILE…              add or replace the policies of a YAML file, and
//	                         resources that they refer to
//	delete TYPE NAME         remove a policy
//	outbound DEST PORT FILE  listener chains, routes, backends and clusters of a
//	                         destination equal FILE
//	inbound SECTION FILE     an inbound equals FILE
//	identity                 the proxy has one from now on
//	tls SECTION FILE         the TLS of an inbound, and of the proxy as a client,
//	                         equals FILE
//	own FILE                 what a proxy with redirection has for destinations that
//	                         the mesh does not know equals FILE
//	refused FILE WANT        every policy of FILE is refused; the violations equal
//	                         WANT
//	same FILE FILE           two results are equal
//	differ FILE FILE         two results differ
//
// Destinations are those of World. With -update, expected files are rewritten.
package policytest

import (
	"bytes"
	"flag"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/rogpeppe/go-internal/txtar"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the expected results of the scripts")

// Run runs every script of testdata as a subtest.
func Run(t *testing.T, defs []*policy.Def) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(f)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{T: t, archive: a, defs: defs, policies: map[resource.ID]*resource.Object{}}
			s.proxy("kuma.io/display-name=client,kuma.io/origin=zone,kuma.io/zone=east,app=client", "web:8080,9090")
			s.run()
			if *update {
				if err := os.WriteFile(f, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type script struct {
	*testing.T
	archive  *txtar.Archive
	defs     []*policy.Def
	policies map[resource.ID]*resource.Object
	client   *policy.Proxy
	identity bool // the client has one
	agent    []string
}

func (s *script) run() {
	lines := strings.Split(strings.TrimSpace(string(s.archive.Comment)), "\n")
	if !strings.HasPrefix(lines[0], "# ") {
		s.Fatal("the first line must be a comment that says what the script shows")
	}
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		switch {
		case f[0] == "proxy" && len(f) == 3:
			s.proxy(f[1], f[2])
		case f[0] == "agent":
			s.agent = f[1:]
			s.says()
		case f[0] == "apply" && len(f) > 1:
			for _, name := range f[1:] {
				s.apply(name)
			}
		case f[0] == "delete" && len(f) == 3:
			delete(s.policies, resource.ID{Type: resource.Type(f[1]), Mesh: "default", Name: f[2]})
		case f[0] == "outbound" && len(f) == 4:
			s.compare(f[3], s.outbound(f[1], f[2]))
		case f[0] == "inbound" && len(f) == 3:
			s.compare(f[2], s.inbound(f[1]))
		case f[0] == "identity" && len(f) == 1:
			s.identity = true
		case f[0] == "tls" && len(f) == 3:
			s.compare(f[2], s.tls(f[1]))
		case f[0] == "own" && len(f) == 2:
			s.compare(f[1], s.own())
		case f[0] == "refused" && len(f) == 3:
			s.refused(f[1], f[2])
		case f[0] == "same" && len(f) == 3:
			if !bytes.Equal(s.file(f[1]).Data, s.file(f[2]).Data) {
				s.Errorf("%s: the files differ", line)
			}
		case f[0] == "differ" && len(f) == 3:
			if bytes.Equal(s.file(f[1]).Data, s.file(f[2]).Data) {
				s.Errorf("%s: the files are equal", line)
			}
		default:
			s.Fatalf("not a command: %s", line)
		}
	}
}

func (s *script) proxy(labels, sections string) {
	meta := &resource.Meta{ID: resource.ID{Type: policy.Dataplane, Mesh: "default", Name: "client"}, Labels: map[string]string{}}
	for pair := range strings.SplitSeq(labels, ",") {
		k, v, _ := strings.Cut(pair, "=")
		meta.Labels[k] = v
	}
	s.client = &policy.Proxy{Meta: meta}
	s.says()
	for section := range strings.SplitSeq(sections, ",") {
		name, port, ok := strings.Cut(section, ":")
		if !ok {
			port = name
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			s.Fatal(err)
		}
		s.client.Sections = append(s.client.Sections, policy.Section{Name: name, Address: "127.0.0.1", Port: uint32(n)})
	}
}

// says tells what the agent of the client can do.
func (s *script) says() {
	s.client.Says = map[string]string{}
	if w := s.client.Meta.Labels[resource.LabelWorkload]; w != "" {
		s.client.Says[policy.SaysService] = w + "\x00" + policy.WorkloadKRI(s.facts().KRI, w)
	}
	for _, ability := range s.agent {
		switch ability {
		case "otlp":
			s.client.Says[policy.SaysOTLP] = "true"
		case "pipe":
			s.client.Says[policy.SaysLogPipe] = "/run/log.sock"
		case "names":
			s.client.Says[policy.SaysService] = policy.AgentNames
		default:
			s.Fatalf("no ability of an agent: %s", ability)
		}
	}
}

func (s *script) file(name string) *txtar.File {
	for i := range s.archive.Files {
		if s.archive.Files[i].Name == name {
			return &s.archive.Files[i]
		}
	}
	if !*update {
		s.Fatalf("the script has no file %s", name)
	}
	s.archive.Files = append(s.archive.Files, txtar.File{Name: name})
	return &s.archive.Files[len(s.archive.Files)-1]
}

// decode reads the policies of a file; the second value is the violations.
func (s *script) decode(name string) (out []*resource.Object, errs []error) {
	for doc := range strings.SplitSeq(string(s.file(name).Data), "\n---\n") {
		body, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			s.Fatal(err)
		}
		var head struct{ Type resource.Type }
		if err := yaml.Unmarshal(body, &head); err != nil {
			s.Fatal(err)
		}
		k := s.kind(head.Type)
		if k == nil {
			s.Fatalf("%s: no policy or collector of type %q", name, head.Type)
		}
		o, err := k.DecodeJSON(body)
		if err == nil {
			err = k.Validate(o).Err()
		}
		out, errs = append(out, o), append(errs, err)
	}
	return out, errs
}

// kind finds the kinds of policies, and of collectors that they refer to.
func (s *script) kind(t resource.Type) *resource.Kind {
	kinds := kind.All()
	for _, d := range s.defs {
		kinds = append(kinds, d.Kind())
	}
	at := slices.IndexFunc(kinds, func(k *resource.Kind) bool { return k.Type == t })
	if at < 0 {
		return nil
	}
	return kinds[at]
}

func (s *script) apply(name string) {
	objects, errs := s.decode(name)
	for i, o := range objects {
		if errs[i] != nil {
			s.Fatalf("%s: %v", name, errs[i])
		}
		o.Mesh = "default"
		s.policies[o.ID] = o
	}
}

func (s *script) refused(name, want string) {
	_, errs := s.decode(name)
	var got strings.Builder
	for i, err := range errs {
		if err == nil {
			s.Errorf("%s: policy %d is accepted", name, i)
			continue
		}
		for _, v := range err.(resource.FieldErrors) {
			fmt.Fprintf(&got, "%s: %s\n", v.Field, v.Reason)
		}
	}
	s.compare(want, []byte(got.String()))
}

func (s *script) match() *policy.Matched {
	return policy.NewIndex(s.defs, s.list).Match(s.client, policy.Options{})
}

// list gives the policies in no order, as a store might.
func (s *script) list(t resource.Type) iter.Seq[*resource.Object] {
	return func(yield func(*resource.Object) bool) {
		for o := range maps.Values(s.policies) {
			if o.Type == t && !yield(o) {
				return
			}
		}
	}
}

func (s *script) compare(name string, got []byte) {
	f := s.file(name)
	if *update {
		f.Data = got
		return
	}
	if !bytes.Equal(f.Data, got) {
		s.Errorf("%s is not what the script expects (go test -update rewrites it).\ngot:\n%s\nwant:\n%s", name, got, f.Data)
	}
}
