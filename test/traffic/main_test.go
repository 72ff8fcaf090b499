package traffic_test

import (
	"flag"
	"os"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestMain keeps the record of which fields of policies are tested here. The
// tests mostly wait for Envoys, so more of them run at once than there are cores.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	os.Exit(traffic.Applied.Main(m, "testdata/fields.txt"))
}
