package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
	"github.com/atoll-mesh/atoll/test/cluster/clustertest"
)

const (
	writePause = 40 * time.Millisecond // the rate of each writer
	writeKeys  = 20
)

// writer changes resources at one control plane, one after the other, and notes
// which of its writes were acknowledged.
type writer struct {
	cp     *cluster.ControlPlane
	prefix string
	stop   context.CancelFunc
	done   chan struct{}

	// The rest is for readers once done is closed.
	acked map[string]int // name to the last number that was acknowledged
	tried map[string]int // name to the last number that was sent
	count int            // acknowledged in total
	errs  map[string]int // what refused writes said
}

var writeClient = &http.Client{Timeout: 20 * time.Second}

// write starts a writer. Its resources select no proxy.
func write(cp *cluster.ControlPlane, prefix string) *writer {
	ctx, stop := context.WithCancel(context.Background())
	w := &writer{cp: cp, prefix: prefix, stop: stop, done: make(chan struct{}), acked: map[string]int{}, tried: map[string]int{}, errs: map[string]int{}}
	go w.run(ctx)
	return w
}

func (w *writer) run(ctx context.Context) {
	defer close(w.done)
	tick := time.NewTicker(writePause)
	defer tick.Stop()
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s-%d", w.prefix, n%writeKeys)
		w.tried[name] = n
		if err := put(w.cp, name, n); err == nil {
			w.acked[name] = n
			w.count++
		} else {
			w.errs[err.Error()]++
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// put writes a number into a resource.
func put(cp *cluster.ControlPlane, name string, n int) error {
	label := ""
	if cp.Zone != "" {
		label = `"labels":{"kuma.io/origin":"zone"},`
	}
	body := fmt.Sprintf(`{"type":"MeshTimeout","mesh":%q,"name":%q,%s"spec":{"targetRef":{"kind":"Dataplane","labels":{"app":"nobody"}},
		"to":[{"targetRef":{"kind":"Mesh"},"default":{"http":{"requestTimeout":"%ds"}}}]}}`, clustertest.Mesh, name, label, n)
	req, err := http.NewRequest(http.MethodPut, cp.URL+"/meshes/"+clustertest.Mesh+"/meshtimeouts/"+name, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := writeClient.Do(req)
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err // the same for each resource
	}
	defer resp.Body.Close()
	if resp.StatusCode < 300 {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	var problem struct{ Detail string }
	if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
		return fmt.Errorf("%s, and no problem: %w", resp.Status, err)
	}
	return fmt.Errorf("%s: %s", resp.Status, problem.Detail)
}

// numbers returns what a control plane has, by the names under which it was
// written.
func numbers(ctx context.Context, cp *cluster.ControlPlane, prefix string) (map[string]int, error) {
	var out struct {
		Items []struct {
			Labels map[string]string
			Spec   struct {
				To []struct {
					Default struct {
						HTTP struct{ RequestTimeout string }
					}
				}
			}
		}
		Next *string
	}
	if err := cp.Do(ctx, http.MethodGet, "/meshes/"+clustertest.Mesh+"/meshtimeouts?size=1000", nil, &out); err != nil {
		return nil, err
	}
	if out.Next != nil {
		return nil, errors.New("there are more resources than one page holds")
	}
	found := map[string]int{}
	for _, i := range out.Items {
		name := i.Labels["kuma.io/display-name"]
		if !strings.HasPrefix(name, prefix+"-") || len(i.Spec.To) != 1 {
			continue
		}
		d, err := time.ParseDuration(i.Spec.To[0].Default.HTTP.RequestTimeout)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		found[name] = int(d / time.Second)
	}
	return found, nil
}

// lost compares what a control plane has with what was acknowledged. A write
// whose answer did not come may have happened.
func (w *writer) lost(found map[string]int) error {
	var missing []string
	for name, n := range w.acked {
		if got, ok := found[name]; !ok || got < n || got > w.tried[name] {
			missing = append(missing, name+": acknowledged "+strconv.Itoa(n)+", found "+strconv.Itoa(got))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%d of %d resources differ from what was acknowledged: %s", len(missing), len(w.acked), strings.Join(missing, "; "))
	}
	return nil
}
