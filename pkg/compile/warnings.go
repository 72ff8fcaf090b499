package compile

import (
	"fmt"
	"runtime/debug"
)

// Warning tells what of a proxy's configuration could not be made, and why. The
// rest of it is served without that piece.
type Warning struct {
	Source string `json:"source"` // a field of the Dataplane, or a name in Envoy
	Text   string `json:"text"`
}

// warnings collects for one goroutine.
type warnings struct {
	list []Warning
	bug  bool // one of them is a bug: what was made before is better
}

func (w *warnings) add(source, format string, args ...any) {
	w.list = append(w.list, Warning{Source: source, Text: fmt.Sprintf(format, args...)})
}

// guard runs f, and turns a panic into a warning, so that one piece that hits a
// bug does not take the others with it. It reports whether f returned.
func (w *warnings) guard(source string, f func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			w.add(source, "bug in compilation, please report it: %v\n%s", p, debug.Stack())
			w.bug, ok = true, false
		}
	}()
	f()
	return true
}
