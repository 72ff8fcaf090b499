package cp

import (
	"testing"

	"github.com/atoll-mesh/atoll/pkg/config"
)

func TestSchemaSettings(t *testing.T) {
	for _, on := range []bool{false, true} {
		var env []string
		if on {
			env = []string{"ATOLL_STORE_POSTGRES_REQUIRE_MIGRATED=true", "ATOLL_STORE_POSTGRES_TOLERATE_NEWER_DB_VERSIONS=true"}
		}
		cfg, warnings, err := config.Load("", env)
		if err != nil || len(warnings) > 0 {
			t.Fatal(err, warnings)
		}
		got := postgresConfig(&cfg.Store.Postgres)
		if got.RequireMigrated != on || got.TolerateNewerSchema != on {
			t.Errorf("set to %t: got %t and %t", on, got.RequireMigrated, got.TolerateNewerSchema)
		}
	}
}
