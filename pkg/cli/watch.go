package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
)

// watch shows resources, and then each that changes. It asks for the state as of
// the revision after the last one, which the server answers when there is one:
// nobody looks every now and then.
func (a *app) watch(ctx context.Context, cl *client, k kindInfo, name string, sel *selection) error {
	if sel.size != "" || sel.offset != "" || sel.at != "" {
		return failWith(exitUsage, "--watch shows the newest of all resources; leave out --size, --offset and --at")
	}
	w := &watcher{app: a, kind: k, seen: map[string][]byte{}}
	header := http.Header{}
	for {
		p, err := a.watched(ctx, cl, k, name, sel, header)
		switch {
		case ctx.Err() != nil:
			return nil
		case isStatus(err, http.StatusServiceUnavailable) && len(header) > 0:
			continue // nothing changed for a while
		case err != nil:
			return err
		}
		if err := w.update(p.items); err != nil {
			return err
		}
		if p.revision == 0 {
			return failWith(exitFailed, "%s does not say which revision its answers are from, so changes cannot be awaited", cl.base)
		}
		header.Set(minRevisionHeader, strconv.FormatUint(p.revision+1, 10))
	}
}

// watched reads what is watched, once.
func (a *app) watched(ctx context.Context, cl *client, k kindInfo, name string, sel *selection, header http.Header) (page, error) {
	if name == "" {
		return cl.pages(ctx, k.listPath(a.meshOf(sel)), sel.query(), header)
	}
	got, err := cl.call(ctx, http.MethodGet, k.itemPath(a.mesh, name), nil, header)
	if isNotFound(err) {
		// The answer does not say of which revision; the list does.
		p, err := cl.pages(ctx, k.listPath(a.mesh), url.Values{"name": {name}}, nil)
		p.items = nil
		return p, err
	}
	return page{items: []json.RawMessage{got.body}, revision: got.revision}, err
}

func isStatus(err error, status int) bool {
	var p *problem
	return errors.As(err, &p) && p.Status == status
}

// watcher prints what differs from what it saw last.
type watcher struct {
	*app
	kind  kindInfo
	seen  map[string][]byte // document by mesh and name
	table *table
}

func (w *watcher) update(items []json.RawMessage) error {
	now := map[string][]byte{}
	var rows [][]string
	note := func(event string, doc []byte) error {
		var it item
		if err := json.Unmarshal(doc, &it); err != nil {
			return err
		}
		switch w.output {
		case "table", "wide":
			rows = append(rows, append([]string{event}, w.row(w.kind, &it)...))
			return nil
		case "name":
			_, err := fmt.Fprintf(w.out, "%s %s/%s\n", event, w.kind.Path, it.Name)
			return err
		case "json":
			_, err := fmt.Fprintf(w.out, "{\"event\":%q,\"resource\":%s}\n", event, compact(doc))
			return err
		case "yaml":
			fmt.Fprintf(w.out, "--- # %s\n", event)
			return w.printDocument(doc)
		}
		return w.printPath(doc)
	}
	var err error
	for _, doc := range items {
		var it item
		if err := json.Unmarshal(doc, &it); err != nil {
			return err
		}
		key := it.Mesh + "/" + it.Name
		now[key] = doc
		switch old, ok := w.seen[key]; {
		case !ok:
			err = errors.Join(err, note("ADDED", doc))
		case !bytes.Equal(old, doc):
			err = errors.Join(err, note("MODIFIED", doc))
		}
	}
	for key, old := range w.seen {
		if _, ok := now[key]; !ok {
			err = errors.Join(err, note("DELETED", old))
		}
	}
	w.seen = now
	switch {
	case err != nil:
		return err
	case w.output != "table" && w.output != "wide":
		return nil
	case w.table == nil:
		w.table = w.app.table(append([]string{"EVENT"}, w.columns(w.kind)...), append(rows, []string{"MODIFIED"}))
	}
	return w.table.print(rows)
}

func compact(doc []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, doc) != nil {
		return doc
	}
	return b.Bytes()
}
