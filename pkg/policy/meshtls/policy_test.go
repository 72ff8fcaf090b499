package meshtls_test

import (
	"testing"

	"github.com/atoll-mesh/atoll/pkg/policy/all"
	"github.com/atoll-mesh/atoll/pkg/policy/policytest"
)

func TestScripts(t *testing.T) { policytest.Run(t, all.Policies()) }
