// Command atollctl is the hand tool of Atoll: it applies, shows and deletes
// resources and tells how zones and proxies are doing.
package main

import (
	"os"

	"github.com/atoll-mesh/atoll/pkg/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
