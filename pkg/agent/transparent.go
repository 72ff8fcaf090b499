package agent

import (
	"fmt"
	"io"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

// TransparentProxyConfig returns the redirection that is in place: the usual one
// when on is set, changed by the files named. A name may be several, separated by
// commas, or "-" for standard input. It returns nil when there is none.
func TransparentProxyConfig(on bool, names []string, stdin io.Reader) (map[string]any, error) {
	if !on && len(names) == 0 {
		return nil, nil
	}
	conf := map[string]any{
		"ipFamilyMode": "dualstack",
		"redirect": map[string]any{
			"inbound":  map[string]any{"enabled": true, "port": 15006},
			"outbound": map[string]any{"enabled": true, "port": 15001},
			"dns":      map[string]any{"enabled": false, "port": 15053},
		},
	}
	for _, group := range names {
		for _, name := range strings.Split(group, ",") {
			var b []byte
			var err error
			if name == "-" {
				b, err = io.ReadAll(stdin)
			} else {
				b, err = os.ReadFile(name)
			}
			if err != nil {
				return nil, fmt.Errorf("--transparent-proxy-config: %w", err)
			}
			var over map[string]any
			if err := yaml.Unmarshal(b, &over); err != nil {
				return nil, fmt.Errorf("--transparent-proxy-config %s: %w", name, err)
			}
			overlay(conf, over)
		}
	}
	return conf, nil
}

// overlay puts the members of over into base, member by member.
func overlay(base, over map[string]any) {
	for k, v := range over {
		old, ok1 := base[k].(map[string]any)
		next, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			overlay(old, next)
			continue
		}
		base[k] = v
	}
}
