package rest

import (
	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/compile"
	"github.com/atoll-mesh/atoll/pkg/policy"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// Describe is the OpenAPI document of a control plane with these kinds and
// policies that serves every endpoint there is, for programs that are made from it.
func Describe(kinds *resource.Kinds, policies []*policy.Def) ([]byte, error) {
	a := newAPI(Config{Kinds: kinds, Compile: compile.Inputs{Policies: policies}, Tokens: &auth.Tokens{}, RootURL: "/"})
	a.routes()
	return a.description()
}
