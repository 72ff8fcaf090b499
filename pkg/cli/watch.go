package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/atoll-mesh/atoll/api/client"
)

// watching is one run of "get -w": it shows resources, and then each that the
// server's stream of events tells of. Only what changed is read.
type watching struct {
	watcher
	cl   *client
	name string // of the only one; empty: those of sel
	sel  *selection
	rev  uint64 // what was shown is as of this revision
}

// fetchLimit is how many changed resources are read one by one; when there are
// more at a time, the list costs less.
const fetchLimit = 20

// Pauses before connecting again to a server that is away.
const (
	reconnectFirst = 200 * time.Millisecond
	reconnectLast  = 5 * time.Second
)

func (a *app) watch(ctx context.Context, cl *client, k kindInfo, name string, sel *selection) error {
	if sel.size != "" || sel.offset != "" || sel.at != "" {
		return failWith(exitUsage, "--watch shows the newest of all resources; leave out --size, --offset and --at")
	}
	w := &watching{watcher: watcher{app: a, kind: k, seen: map[string][]byte{}}, cl: cl, name: name, sel: sel}
	if err := w.list(ctx, nil); err != nil {
		return err
	}
	if w.rev == 0 {
		return failWith(exitFailed, "%s does not say which revision its answers are from, so changes cannot be awaited", cl.base)
	}
	pause := reconnectFirst
	for {
		progress, err := w.follow(ctx)
		if progress {
			pause = reconnectFirst
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errGone):
			err = w.list(ctx, nil)
			if err == nil {
				continue
			}
		}
		var stopped *exitError
		if errors.As(err, &stopped) && stopped.code != exitUnreachable || errors.Is(err, errOutput) {
			return err
		}
		fmt.Fprintf(a.err, "The stream of events ended (%v); connecting again\n", err)
		select {
		case <-time.After(pause): // nothing tells when a server is back
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, reconnectLast)
	}
}

// follow shows changes until the stream ends.
func (w *watching) follow(ctx context.Context) (progress bool, err error) {
	q := url.Values{}
	if !w.computed() {
		q.Set("kind", w.kind.Name)
		if w.name != "" {
			q.Set("name", w.name)
		}
		if w.kind.Scope == "Mesh" && !w.sel.allMeshes {
			q.Set("mesh", w.mesh)
		}
	}
	stream, err := w.cl.follow(ctx, q, w.rev)
	if err != nil {
		return false, err
	}
	for {
		changes, after, err := stream.take(ctx)
		if err != nil {
			w.rev = max(w.rev, after)
			return progress, err
		}
		if err := w.apply(ctx, changes); err != nil {
			return progress, err
		}
		w.rev, progress = max(w.rev, after, changes[len(changes)-1].Revision), true
	}
}

// computed tells whether resources of the kind are made when somebody asks, so
// that any change may be one of theirs.
func (w *watching) computed() bool { return w.kind.Name == "MeshInsight" }

// apply shows what became of changed resources.
func (w *watching) apply(ctx context.Context, changes []change) error {
	newest := map[string]change{}
	for _, c := range changes {
		newest[c.Mesh+"/"+c.Name] = c
	}
	last := changes[len(changes)-1].Revision
	at := http.Header{minRevisionHeader: {strconv.FormatUint(last, 10)}}
	if len(newest) > fetchLimit || w.computed() {
		return w.list(ctx, at)
	}
	now := maps.Clone(w.seen)
	for _, key := range slices.Sorted(maps.Keys(newest)) {
		c := newest[key]
		delete(now, key)
		if c.Operation == "delete" {
			continue
		}
		got, err := target{w.kind, c.Mesh, c.Name}.get(ctx, w.cl, api.WithHeader(at))
		switch {
		case isNotFound(err): // deleted since
		case err != nil:
			return err
		case w.selects(got.body):
			now[key] = got.body
		}
	}
	return w.update(now)
}

// selects tells whether a resource is one of those asked for.
func (w *watching) selects(doc []byte) bool {
	var it item
	if json.Unmarshal(doc, &it) != nil || !strings.Contains(it.Name, w.sel.name) {
		return false
	}
	for key, want := range w.sel.labels {
		if got, ok := it.Labels[key]; !ok || got != want {
			return false
		}
	}
	return true
}

// list reads everything that is watched.
func (w *watching) list(ctx context.Context, header http.Header) error {
	p, err := w.cl.pages(ctx, w.kind.in(w.meshOf(w.sel)), w.sel.query(), header)
	if err != nil {
		return err
	}
	now := map[string][]byte{}
	for _, doc := range p.items {
		var it item
		if err := json.Unmarshal(doc, &it); err != nil {
			return err
		}
		if w.name == "" || w.name == it.Name {
			now[it.Mesh+"/"+it.Name] = doc
		}
	}
	w.rev = max(w.rev, p.revision)
	return w.update(now)
}

// errOutput says that nobody reads what is printed any more.
var errOutput = errors.New("the output cannot be written")

// watcher prints what differs from what it saw last.
type watcher struct {
	*app
	kind  kindInfo
	seen  map[string][]byte // document by mesh and name
	table *table
}

// update prints how what there is now differs from what was seen.
func (w *watcher) update(now map[string][]byte) error {
	var rows [][]string
	for _, key := range slices.Sorted(maps.Keys(w.seen)) {
		if _, ok := now[key]; !ok {
			row, err := w.note("DELETED", w.seen[key])
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		event := "ADDED"
		if old, ok := w.seen[key]; ok {
			if event = "MODIFIED"; same(old, now[key]) {
				continue
			}
		}
		row, err := w.note(event, now[key])
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	w.seen = now
	switch {
	case w.output != "table" && w.output != "wide":
		return nil
	case w.table == nil:
		w.table = w.app.table(append([]string{"EVENT"}, w.columns(w.kind)...), append(rows, []string{"MODIFIED"}))
	}
	return written(w.table.print(rows))
}

// note prints one event, or returns it as the row of a table.
func (w *watcher) note(event string, doc []byte) ([]string, error) {
	var it item
	if err := json.Unmarshal(doc, &it); err != nil {
		return nil, err
	}
	switch w.output {
	case "table", "wide":
		return append([]string{event}, w.row(w.kind, &it)...), nil
	case "name":
		_, err := fmt.Fprintf(w.out, "%s %s/%s\n", event, w.kind.Path, it.Name)
		return nil, written(err)
	case "json":
		_, err := fmt.Fprintf(w.out, "{\"event\":%q,\"resource\":%s}\n", event, compact(doc))
		return nil, written(err)
	case "yaml":
		fmt.Fprintf(w.out, "--- # %s\n", event)
		return nil, written(w.printDocument(doc))
	}
	return nil, written(w.printPath(doc))
}

func written(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// same compares documents, which lists and single answers indent differently.
func same(a, b []byte) bool { return bytes.Equal(a, b) || bytes.Equal(compact(a), compact(b)) }

func compact(doc []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, doc) != nil {
		return doc
	}
	return b.Bytes()
}
