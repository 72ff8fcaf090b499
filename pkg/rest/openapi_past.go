package rest

import (
	"slices"
)

var changeParameters = []object{
	queryParameter("kind", "string", "Only of these kinds, separated by commas."),
	queryParameter("mesh", "string", "Only in this mesh."),
	queryParameter("name", "string", "Only resources of this name."),
	queryParameter("author", "string", "Only by this user."),
	queryParameter("since", "string", "Only from this time on (RFC 3339)."),
	queryParameter("until", "string", "Only up to this time (RFC 3339)."),
}

func operationOf(list ...any) object {
	return members(append([]any{"operation!", text(""), "type!", text(""), "mesh", text(""), "name!", text("")}, list...)...)
}

// pastOperations describes history and events.
var pastOperations = map[string]operationDoc{
	"GET /history": {
		summary: "Changes, the newest first.", tag: "History", answer: members("items!", arrayOf(goSchema[changeBody]()), "next!", object{"type": []string{"string", "null"}}),
		query: append(slices.Clone(changeParameters), pageParameters[:2]...),
	},
	"GET /history/{revision}": {
		summary: "What one revision changed.", tag: "History", query: changeParameters, answer: members(
			"revision!", object{"type": "integer"}, "time!", object{"type": "string", "format": "date-time"},
			"changes!", arrayOf(operationOf("revision!", object{"type": "integer"}, "time!", object{"type": "string", "format": "date-time"}, "author!", text(""),
				"before", anything, "after", anything, "diff", anything, "beforeKnown!", object{"type": "boolean"}, "hidden", object{"type": "boolean"})),
		),
	},
	"POST /history/{revision}/revert": {
		summary: "Undo what a revision changed, all of it or nothing.", tag: "History",
		query: append(slices.Clone(changeParameters), writeParameters...), answer: members(
			"dryRun", object{"type": "boolean"}, "reverted!", arrayOf(operationOf("diff", anything)),
			"skipped", arrayOf(members("type!", text(""), "mesh", text(""), "name!", text(""), "reason!", text(""))),
		),
	},
	"GET /events": {
		summary: "Changes as they happen, as server-sent events. Each has its revision as the id.", tag: "History", media: "text/event-stream",
		answer: object{"type": "string"},
		query:  append(slices.Clone(changeParameters), queryParameter("after", "string", "From this revision or time on; else from now on.")),
	},
}

func operationFor(key string) (operationDoc, bool) {
	if d, ok := operations[key]; ok {
		return d, true
	}
	d, ok := pastOperations[key]
	return d, ok
}
