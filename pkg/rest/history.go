package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/store"
)

// historyScan bounds how many revisions one request looks at. A page that ends
// there is shorter and has a next one.
const historyScan = 5000

// Operations of changes.
const (
	opCreate = "create"
	opUpdate = "update"
	opDelete = "delete"
	opPut    = "put" // create or update, which is not known
)

// changeBody is one change as history and events show it: never with a value.
type changeBody struct {
	Revision  store.Revision `json:"revision"`
	Time      time.Time      `json:"time"`
	Author    string         `json:"author"`
	Operation string         `json:"operation"`
	Type      resource.Type  `json:"type"`
	Mesh      string         `json:"mesh,omitempty"`
	Name      string         `json:"name"`
}

func changeOf(c *store.Commit, ch *store.Change) changeBody {
	b := changeBody{c.Revision, c.Time.UTC(), ch.Author, opUpdate, ch.Type, ch.Mesh, ch.Name}
	switch {
	case ch.Record == nil:
		b.Operation = opDelete
	case created(c, ch):
		b.Operation = opCreate
	}
	return b
}

// changeFilter selects changes. All conditions have to hold.
type changeFilter struct {
	kinds        map[resource.Type]bool // nil: all
	mesh, name   string
	author       string
	since, until time.Time
}

func (a *API) parseChangeFilter(q url.Values) (changeFilter, error) {
	f := changeFilter{mesh: q.Get("mesh"), name: q.Get("name"), author: q.Get("author")}
	var errs resource.FieldErrors
	for _, list := range q["kind"] {
		for name := range strings.SplitSeq(list, ",") {
			k := a.Kinds.ByType(resource.Type(name))
			if k == nil {
				k = a.Kinds.ByPath(name)
			}
			if k == nil {
				errs.Add("kind", "there is no kind %q; GET /_resources lists them", name)
				continue
			}
			if f.kinds == nil {
				f.kinds = map[resource.Type]bool{}
			}
			f.kinds[k.Type] = true
		}
	}
	for key, t := range map[string]*time.Time{"since": &f.since, "until": &f.until} {
		if text := q.Get(key); text != "" {
			var err error
			if *t, err = time.Parse(time.RFC3339, text); err != nil {
				errs.Add(key, "must be a time such as 2026-01-31T12:00:00Z, got %q", text)
			}
		}
	}
	return f, invalid(titleList, errs)
}

func (f *changeFilter) selects(c *store.Commit, ch *store.Change) bool {
	return (f.kinds == nil || f.kinds[ch.Type]) && (f.mesh == "" || f.mesh == ch.Mesh) &&
		(f.name == "" || f.name == ch.Name) && (f.author == "" || f.author == ch.Author) &&
		(f.since.IsZero() || !c.Time.Before(f.since)) && (f.until.IsZero() || !c.Time.After(f.until))
}

// mayKnow tells whether the user may know of a change. before is the resource
// that a deletion deleted, nil when that is not known.
func (a *API) mayKnow(u auth.User, ch *store.Change, before func() *resource.Meta) bool {
	k := a.Kinds.ByType(ch.Type)
	if a.Access.IsAdmin(u) {
		return true
	}
	if k == nil {
		return false
	}
	if a.Access.Sees(u) == nil && !k.AdminOnly && !k.Internal {
		return a.Access.Resource(u, auth.Read, k) == nil
	}
	m := &resource.Meta{ID: ch.ID}
	if ch.Record != nil {
		m.Labels = ch.Record.Labels
	}
	t := auth.TargetOf(k, m)
	if ch.Record == nil && a.Access.Object(u, auth.Read, t) == nil {
		// Of which zone was it? One that nobody has, when nobody can tell.
		zone := "?"
		if known := before(); known != nil {
			t = auth.TargetOf(k, known)
		} else if *t.Zone == "" {
			t.Zone = &zone
		}
	}
	return a.Access.Object(u, auth.Read, t) == nil
}

// before finds what a deletion in the log deleted.
func (a *API) before(ctx context.Context, rev store.Revision, id resource.ID) func() *resource.Meta {
	return func() *resource.Meta {
		found, err := a.lastAt(ctx, rev-1, []resource.ID{id})
		if err != nil || found[id] == nil {
			return nil
		}
		return &resource.Meta{ID: id, Labels: found[id].Labels}
	}
}

// place is where a page of history goes on: after so many changes of a
// revision were shown.
type place struct {
	rev  store.Revision
	skip int
}

func parsePlace(text string, head store.Revision) (place, error) {
	if text == "" {
		return place{rev: head}, nil
	}
	rev, skip, _ := strings.Cut(text, ".")
	n, err := strconv.ParseUint(rev, 10, 64)
	p := place{rev: min(store.Revision(n), head)}
	if err == nil && skip != "" {
		p.skip, err = strconv.Atoi(skip)
	}
	if err != nil || p.skip < 0 {
		return p, &problem{http.StatusBadRequest, titleList, fmt.Sprintf("invalid offset %q: use the one in next", text), nil}
	}
	return p, nil
}

// history lists changes, the newest first.
func (a *API) history(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	offset := q.Get("offset")
	q.Del("offset")
	p, err := parsePage(q)
	if err != nil {
		return err
	}
	f, err := a.parseChangeFilter(q)
	if err != nil {
		return err
	}
	head := a.View.Snapshot().Revision()
	from, err := parsePlace(offset, head)
	if err != nil {
		return err
	}
	ctx, user := r.Context(), auth.UserFrom(r.Context())
	done, err := a.logReads.wait(ctx)
	if err != nil {
		return err
	}
	defer done()
	items, scanned := []changeBody{}, 0
	var next *place
scan:
	for c, err := range a.backwards(ctx, from.rev) {
		if errors.Is(err, store.ErrCompacted) || err == nil && !f.since.IsZero() && c.Time.Before(f.since) {
			break
		}
		if err != nil {
			return err
		}
		if scanned++; scanned > historyScan {
			next = &place{rev: c.Revision}
			break
		}
		for i := range c.Changes {
			ch := &c.Changes[i]
			if c.Revision == from.rev && i < from.skip || !f.selects(&c, ch) || !a.mayKnow(user, ch, a.before(ctx, c.Revision, ch.ID)) {
				continue
			}
			if len(items) == p.size {
				next = &place{c.Revision, i}
				break scan
			}
			items = append(items, changeOf(&c, ch))
		}
	}
	done() // before the answer, which may be read slowly
	noteRevision(w, head)
	body := struct {
		Items []changeBody `json:"items"`
		Next  *string      `json:"next"`
	}{Items: items}
	if next != nil {
		link := a.pageLink(r, q, fmt.Sprintf("%d.%d", next.rev, next.skip), p.size)
		body.Next = &link
	}
	writeJSON(w, http.StatusOK, body)
	return nil
}

// detailBody is a change with what it did.
type detailBody struct {
	changeBody
	Before      json.RawMessage `json:"before,omitempty"`
	After       json.RawMessage `json:"after,omitempty"`
	Diff        []patchOp       `json:"diff,omitempty"`
	BeforeKnown bool            `json:"beforeKnown"` // false: it is no longer kept
	Hidden      bool            `json:"hidden,omitempty"`
}

// commitAt reads one revision.
func (a *API) commitAt(r *http.Request) (*store.Commit, error) {
	n, err := strconv.ParseUint(r.PathValue("revision"), 10, 64)
	head := a.View.Snapshot().Revision()
	if err != nil || n == 0 || store.Revision(n) > head {
		return nil, &problem{http.StatusNotFound, "Could not retrieve a revision", fmt.Sprintf("there is no revision %q, the newest is %d", r.PathValue("revision"), head), nil}
	}
	b, err := a.Store.Read(r.Context(), store.Revision(n)-1, 1)
	if errors.Is(err, store.ErrCompacted) {
		return nil, gone("revision %d is no longer kept; GET /history lists those that are", n)
	}
	if err != nil {
		return nil, err
	}
	return &b.Commits[0], nil
}

// maxDetails bounds how many changes of one revision are shown with documents.
const maxDetails = 100

// revision shows what one revision changed.
func (a *API) revision(w http.ResponseWriter, r *http.Request) error {
	c, err := a.commitAt(r)
	if err != nil {
		return err
	}
	f, err := a.parseChangeFilter(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, user := r.Context(), auth.UserFrom(r.Context())
	done, err := a.logReads.wait(ctx)
	if err != nil {
		return err
	}
	defer done()
	shown, before, err := a.changesBy(ctx, user, c, &f)
	if err != nil {
		return err
	}
	done() // before the answer, which may be read slowly
	if len(shown) == 0 {
		return notFound("Could not retrieve a revision")
	}
	out := []detailBody{}
	for i, ch := range shown {
		d := detailBody{changeBody: changeOf(c, ch), Hidden: true, BeforeKnown: created(c, ch) || before[ch.ID] != nil}
		k := a.Kinds.ByType(ch.Type)
		if k != nil && !k.AdminOnly && i < maxDetails {
			d.Hidden = false
			d.Before, d.After = a.document(before[ch.ID]), a.document(ch.Record)
			if d.BeforeKnown {
				if d.Diff, err = diffOf(d.Before, d.After); err != nil {
					return err
				}
			}
		}
		out = append(out, d)
	}
	noteRevision(w, a.View.Snapshot().Revision())
	writeJSON(w, http.StatusOK, struct {
		Revision store.Revision `json:"revision"`
		Time     time.Time      `json:"time"`
		Changes  []detailBody   `json:"changes"`
	}{c.Revision, c.Time.UTC(), out})
	return nil
}

// changesBy are the changes of a commit that the filter selects and the user may
// know, and what was there before each.
func (a *API) changesBy(ctx context.Context, u auth.User, c *store.Commit, f *changeFilter) ([]*store.Change, map[resource.ID]*store.Record, error) {
	var selected []*store.Change
	var ids []resource.ID
	for i := range c.Changes {
		if ch := &c.Changes[i]; f.selects(c, ch) {
			selected = append(selected, ch)
			if !created(c, ch) {
				ids = append(ids, ch.ID)
			}
		}
	}
	before, err := a.lastAt(ctx, c.Revision-1, ids)
	if err != nil {
		return nil, nil, err
	}
	shown := selected[:0]
	for _, ch := range selected {
		known := func() *resource.Meta {
			if b := before[ch.ID]; b != nil {
				return &resource.Meta{ID: ch.ID, Labels: b.Labels}
			}
			return nil
		}
		if a.mayKnow(u, ch, known) {
			shown = append(shown, ch)
		}
	}
	return shown, before, nil
}

// document is a record as the API shows it, nil when it is not there or cannot be
// read.
func (a *API) document(r *store.Record) json.RawMessage {
	if r == nil {
		return nil
	}
	o, err := r.Object(a.Kinds)
	if err != nil {
		return nil
	}
	return o.JSON()
}

// diffOf is what turns one document into another, apart from what every write
// changes. Nil is no document.
func diffOf(before, after json.RawMessage) ([]patchOp, error) {
	plain := func(b json.RawMessage) (map[string]any, error) {
		m := map[string]any{}
		if b == nil {
			return m, nil
		}
		err := json.Unmarshal(b, &m)
		for _, key := range []string{"creationTime", "modificationTime"} {
			delete(m, key)
		}
		return m, err
	}
	from, err := plain(before)
	if err != nil {
		return nil, err
	}
	to, err := plain(after)
	if err != nil {
		return nil, err
	}
	return jsonPatch(from, to)
}
