package cli

import (
	"encoding/json"
	"strings"
	"time"
)

// rejectionTable shows what a proxy refuses.
func (a *app) rejectionTable(b []byte) error {
	var answer struct {
		Insight struct {
			Metadata struct {
				Rejections []struct {
					Type, Resource, Error string
					Since                 time.Time
					Policies              []string
				} `json:"atoll.rejections"`
			}
		} `json:"dataplaneInsight"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	var rows [][]string
	for _, r := range answer.Insight.Metadata.Rejections {
		rows = append(rows, []string{r.Type, r.Resource, age(r.Since), orDash(strings.Join(r.Policies, ", ")), r.Error})
	}
	return a.printTable([]string{"TYPE", "RESOURCE", "SINCE", "BECAUSE OF", "ENVOY SAYS"}, rows)
}
