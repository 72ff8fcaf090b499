package resource

import (
	"regexp"
	"slices"
	"strconv"
)

var yamlError = regexp.MustCompile(`(?s)^(?:error converting YAML to JSON: )?(?:yaml: )?(?:line (\d+): )?(.*)$`)

// yamlParserProblems are those for which the library counts lines from 0. It
// counts those of its scanner from 1, and leaves out the first line for both
// (go-yaml/yaml#910).
var yamlParserProblems = []string{
	"did not find expected <stream-start>",
	"did not find expected <document start>",
	"did not find expected node content",
	"did not find expected '-' indicator",
	"did not find expected key",
	"did not find expected ',' or ']'",
	"did not find expected ',' or '}'",
	"found undefined tag handle",
	"found duplicate %YAML directive",
	"found incompatible YAML document",
	"found duplicate %TAG directive",
}

// YAMLSyntax takes apart an error of the YAML library about syntax: the line,
// counted from 1, on which what is wrong begins or shows, and what that is.
func YAMLSyntax(err error) (line int, reason string) {
	m := yamlError.FindStringSubmatch(err.Error())
	reason = m[2]
	if m[1] == "" {
		return 1, reason
	}
	line, _ = strconv.Atoi(m[1])
	if slices.Contains(yamlParserProblems, reason) {
		line++
	}
	return line, reason
}
