package meshhttproute

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"

	"github.com/atoll-mesh/atoll/pkg/policy"
)

var mergeDefaults = policy.Merger[RuleConf]()

// merge lists the rules of the strongest policy first, in its order, then those
// that weaker ones add. Rules with equal matches are one, in the place of the
// strongest; within a list the first of them is the strongest.
func merge(items []policy.Item[Conf]) Conf {
	out := Conf{Rules: []Rule{}}
	at := map[string]int{}
	for i := len(items) - 1; i >= 0; i-- {
		for _, r := range items[i].Conf.Rules {
			key := string(matchesJSON(r.Matches))
			if n, ok := at[key]; ok {
				out.Rules[n].Default = mergeDefaults(r.Default, out.Rules[n].Default)
				continue
			}
			at[key] = len(out.Rules)
			if r.origin.Policy == nil {
				r.origin = items[i].Origin
			}
			out.Rules = append(out.Rules, r)
		}
	}
	return out
}

func matchesJSON(m []Match) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic("meshhttproute: matches that were decoded cannot be encoded: " + err.Error())
	}
	return b
}

// Hash identifies a list of matches, as inspection names it.
func Hash(m []Match) string {
	sum := sha256.Sum256(matchesJSON(m))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Origin is the strongest policy that contributed to a merged rule, and the
// index of the item of spec.to there. It is zero for a rule of a spec.
func (r Rule) Origin() policy.Origin { return r.origin }
