// Command genclient makes the Go client of the REST API from its description. Run
// it from the root of the repository: go run ./tools/genclient
package main

import (
	"fmt"
	"os"

	"github.com/atoll-mesh/atoll/pkg/kind"
	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/rest"
)

const target = "api/client/client_gen.go"

func main() {
	code, err := current()
	if err == nil {
		err = os.WriteFile(target, code, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "genclient:", err)
		os.Exit(1)
	}
}

// current is the client of the API as it is now.
func current() ([]byte, error) {
	kinds := kind.All()
	for _, d := range all.Policies() {
		kinds = append(kinds, d.Kind())
	}
	doc, err := rest.Describe(resource.NewKinds(kinds...), all.Policies())
	if err != nil {
		return nil, err
	}
	return generate(doc)
}
