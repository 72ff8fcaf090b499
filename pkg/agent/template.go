package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// document is the Dataplane that the agent brings.
type document struct {
	mesh, name string
	json       []byte
}

// loadDocument reads the Dataplane, fills in its variables and checks that it is
// one. It returns nil when the agent brings none.
func loadDocument(c *Config, stdin io.Reader) (*document, error) {
	text, from := c.Dataplane, "--dataplane"
	switch c.DataplaneFile {
	case "":
		if text == "" {
			return nil, nil
		}
	case "-":
		b, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("the Dataplane on standard input: %w", err)
		}
		text, from = string(b), "standard input"
	default:
		b, err := os.ReadFile(c.DataplaneFile)
		if err != nil {
			return nil, fmt.Errorf("--dataplane-file: %w", err)
		}
		text, from = string(b), c.DataplaneFile
	}
	filled, err := render(text, c.Vars)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	j, err := yaml.YAMLToJSON([]byte(filled))
	if err != nil {
		return nil, fmt.Errorf("%s is neither YAML nor JSON: %w", from, err)
	}
	var head map[string]any
	if err := json.Unmarshal(j, &head); err != nil || head == nil {
		return nil, fmt.Errorf("%s: must hold one Dataplane", from)
	}
	if head["type"] != "Dataplane" {
		return nil, fmt.Errorf("%s: type is %v and must be Dataplane", from, head["type"])
	}
	if head["mesh"] == nil {
		head["mesh"] = "default"
	}
	d := &document{}
	var ok [2]bool
	d.mesh, ok[0] = head["mesh"].(string)
	d.name, ok[1] = head["name"].(string)
	if !ok[0] || !ok[1] || d.mesh == "" || d.name == "" {
		return nil, fmt.Errorf("%s: name and mesh must be set and be text", from)
	}
	d.json, err = json.Marshal(head)
	return d, err
}

// render replaces {{ key }} by the values of vars. A key may have dots.
func render(text string, vars map[string]string) (string, error) {
	var out strings.Builder
	var missing []string
	for line := 1; ; {
		before, rest, found := strings.Cut(text, "{{")
		out.WriteString(before)
		if !found {
			break
		}
		line += strings.Count(before, "\n")
		raw := strings.HasPrefix(rest, "{")
		end := "}}"
		if raw {
			rest, end = rest[1:], "}}}"
		}
		key, after, closed := strings.Cut(rest, end)
		if !closed {
			return "", fmt.Errorf("line %d: {{ is not closed by %s", line, end)
		}
		key = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(key), "&"))
		text = after
		switch {
		case strings.HasPrefix(key, "!"): // a comment
			continue
		case key == "" || strings.ContainsAny(key[:1], "#^/>="):
			return "", fmt.Errorf("line %d: {{%s}} is not supported; only variables are, as {{ name }}", line, key)
		}
		value, ok := vars[key]
		if !ok && !slices.Contains(missing, key) {
			missing = append(missing, key)
		}
		out.WriteString(value)
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("no value for {{ %s }}; give it with --dataplane-var %s=…", strings.Join(missing, " }}, {{ "), missing[0])
	}
	return out.String(), nil
}
