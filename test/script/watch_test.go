package script

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/atoll-mesh/atoll/pkg/cli"
)

// TestWatch follows a kind while it changes. Every line is awaited before the
// next change is made, so that nothing depends on time.
func TestWatch(t *testing.T) {
	url, stop, err := controlPlane(t.TempDir())
	if stop != nil {
		t.Cleanup(stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(stdin string, args ...string) {
		t.Helper()
		var out strings.Builder
		if code := cli.Main(append(args, "--server", url, "--no-config"), strings.NewReader(stdin), &out, &out); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, &out)
		}
	}
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Main([]string{"get", "mt", "-w", "--server", url, "--no-config", "-o", "name"}, nil, w, io.Discard)
	}()
	lines := bufio.NewScanner(r)
	want := func(line string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == line {
				return
			}
		}
		t.Fatalf("the watch ended before it said %q: %v", line, lines.Err())
	}
	const doc = `{"type":"MeshTimeout","name":"slow","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"idleTimeout":"1h"}}]}}`
	want("ADDED meshtimeouts/mesh-timeout-all-default")
	run(doc, "apply", "-f", "-")
	want("ADDED meshtimeouts/slow")
	run(strings.Replace(doc, "1h", "2h", 1), "apply", "-f", "-")
	want("MODIFIED meshtimeouts/slow")
	run("", "delete", "mt", "slow")
	want("DELETED meshtimeouts/slow")
	r.Close() // nobody reads any more, as after "| head"
	run(doc, "apply", "-f", "-")
	if code := <-ended; code == 0 {
		t.Error("a watch whose output cannot be written ended well")
	}
}
