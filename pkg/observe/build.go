package observe

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// APIVersion is the version of the API that this build implements. It is what
// version checks of stock tools and zones see.
const APIVersion = "3.0.0"

// Set by the linker in release builds.
var (
	version string
	date    string
)

// Build says what a binary was made from.
type Build struct {
	Version string // of Atoll, such as v0.1.0; "dev" when it was not released
	Commit  string // of the source; empty when unknown
	Date    string // of the build or the commit; empty when unknown
	Dirty   bool   // the source had changes that were not committed
	Go      string // version of the compiler
}

// ReadBuild returns what this binary was made from.
func ReadBuild() Build {
	b := Build{Version: version, Date: date, Go: strings.TrimPrefix(runtime.Version(), "go")}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.time":
				if b.Date == "" {
					b.Date = s.Value
				}
			case "vcs.modified":
				b.Dirty = s.Value == "true"
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}

// String is one line for people.
func (b Build) String() string {
	s := "Atoll " + b.Version
	if b.Commit != "" {
		s += fmt.Sprintf(" (commit %.12s", b.Commit)
		if b.Dirty {
			s += " with changes"
		}
		s += ")"
	}
	return s + fmt.Sprintf(", API %s, Go %s, %s/%s", APIVersion, b.Go, runtime.GOOS, runtime.GOARCH)
}
