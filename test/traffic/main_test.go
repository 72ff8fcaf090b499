package traffic_test

import (
	"os"
	"testing"

	"github.com/atoll-mesh/atoll/test/traffic"
)

// TestMain keeps the record of which fields of policies are tested here.
func TestMain(m *testing.M) { os.Exit(traffic.Applied.Main(m, "testdata/fields.txt")) }
