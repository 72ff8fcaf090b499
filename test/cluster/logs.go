package cluster

import (
	"fmt"
	"strings"
)

// Logs returns the last lines of every process, for the report of a failure.
func (c *Cluster) Logs(bytes int64) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	for _, p := range c.processes {
		tail := strings.TrimSpace(p.Tail(bytes))
		if tail == "" {
			continue
		}
		if _, rest, cut := strings.Cut(tail, "\n"); cut && int64(len(tail)) >= bytes-1 {
			tail = rest // the first line is only a part of one
		}
		fmt.Fprintf(&b, "--- %s (%s)\n%s\n", p.Name, p.Log, tail)
	}
	return b.String()
}
