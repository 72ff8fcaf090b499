package agent

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// resourceAttributes is what OpenTelemetry reads about who sends.
const resourceAttributes = "OTEL_RESOURCE_ATTRIBUTES"

// names are variables for Envoy that say whose proxy it is, as the bootstrap
// document has it. They let all clients of a service have the same configuration.
func (c *Config) names(bootstrap []byte) ([]string, error) {
	var doc struct {
		Node struct {
			Cluster  string         `json:"cluster"`
			Metadata map[string]any `json:"metadata"`
		} `json:"node"`
	}
	if err := yaml.Unmarshal(bootstrap, &doc); err != nil {
		return nil, fmt.Errorf("the control plane's bootstrap document cannot be read: %w", err)
	}
	getenv := c.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	attributes := getenv(resourceAttributes)
	if !strings.Contains(","+attributes, ",service.name=") && doc.Node.Cluster != "" {
		attributes = strings.TrimPrefix(attributes+",service.name="+url.PathEscape(doc.Node.Cluster), ",")
	}
	workload, _ := doc.Node.Metadata["atoll.workload"].(string)
	return []string{"ATOLL_WORKLOAD=" + workload, resourceAttributes + "=" + attributes}, nil
}
