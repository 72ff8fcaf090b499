package failover

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/atoll-mesh/atoll/test/cluster"
)

// slow is what no request may take once a fault is over for clients.
const slow = 500 * time.Millisecond

// settled is how long after a fault clients may notice it.
const settled = 5 * time.Second

// summary is what one load saw of one fault.
type summary struct {
	fault, load   string
	sent, failed  int // while the part was away
	away          time.Duration
	last          time.Duration // from the fault to the end of the last failure
	slow          int           // requests begun later than settled that took longer than slow
	longest       time.Duration
	shares        map[string]int // zone to answers while the part was away
	left          int            // answers from other zones than the client's
	later, laterX int            // sent and failed since the return began
	used          time.Duration  // from ready to the first answer of what was away
	twice         int
	errs          map[string]int
	when          map[int]int   // failures by second since the fault
	late          time.Duration // at most, a request was begun: the machine is busy
}

// marks are the moments of one fault.
type marks struct{ fault, back, ready time.Time }

// summarize looks at the outcomes of a load. lost tells what the fault took away.
func summarize(all []cluster.Outcome, m marks, home string, lost func(who string) bool) *summary {
	s := &summary{shares: map[string]int{}, errs: map[string]int{}, when: map[int]int{}, used: -1, away: m.back.Sub(m.fault)}
	for _, o := range all {
		switch end := o.Begun.Add(o.Took); {
		case end.Before(m.fault):
			if o.Err != nil {
				s.errs["BEFORE "+o.Err.Error()]++
			}
			continue
		case o.Begun.Before(m.back):
			s.sent++
			s.late = max(s.late, o.Late)
			after := o.Begun.Sub(m.fault)
			if o.Err != nil {
				s.failed++
				s.last = max(s.last, end.Sub(m.fault))
			}
			if after > settled && o.Took > slow {
				s.slow++
			}
			s.longest = max(s.longest, o.Took)
			if o.Err == nil {
				zone, _, _ := strings.Cut(o.Who, "/")
				s.shares[zone]++
				if zone != home {
					s.left++
				}
			}
		default:
			s.later++
			if o.Err != nil {
				s.laterX++
			}
			if o.Err == nil && lost(o.Who) && s.used < 0 {
				s.used = max(end.Sub(m.ready), 0)
			}
		}
		if o.Err != nil {
			s.errs[shorten(o.Err)]++
			s.when[int(o.Begun.Sub(m.fault).Seconds())]++
		}
	}
	return s
}

func shorten(err error) string {
	text := err.Error()
	if i := strings.Index(text, ": "); strings.HasPrefix(text, "Get ") || strings.HasPrefix(text, "Post ") {
		text = text[i+2:]
	}
	text = addresses.ReplaceAllString(text, "address")
	if len(text) > 160 {
		text = text[:160]
	}
	return text
}

var addresses = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+:\d+`)

func (s *summary) success() float64 { return 100 * (1 - float64(s.failed)/float64(max(s.sent, 1))) }

// table prints summaries for people.
func table(list []*summary) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-34s %-16s %9s %7s %8s %9s %6s %-26s %10s %8s %6s\n",
		"fault", "load", "success", "failed", "last", "longest", "slow", "answers", "returning", "used", "late")
	for _, s := range list {
		used := "-"
		if s.used >= 0 {
			used = fmt.Sprintf("%.1fs", s.used.Seconds())
		}
		var shares []string
		for _, z := range slices.SortedFunc(maps.Keys(s.shares), cmp.Compare[string]) {
			shares = append(shares, fmt.Sprintf("%s %.1f%%", z, 100*float64(s.shares[z])/float64(max(s.sent, 1))))
		}
		last := "-"
		if s.failed > 0 {
			last = fmt.Sprintf("%.1fs", s.last.Seconds())
		}
		fmt.Fprintf(&b, "%-34s %-16s %8.2f%% %7d %8s %8.2fs %6d %-26s %5d/%-4d %8s %5.2fs\n",
			s.fault, s.load, s.success(), s.failed, last, s.longest.Seconds(), s.slow, strings.Join(shares, ", "), s.laterX, s.later, used, s.late.Seconds())
		if len(s.when) > 0 {
			b.WriteString("      begun in second:")
			for _, at := range slices.Sorted(maps.Keys(s.when)) {
				fmt.Fprintf(&b, " %d: %d", at, s.when[at])
			}
			b.WriteString("\n")
		}
		for _, e := range slices.Sorted(maps.Keys(s.errs)) {
			fmt.Fprintf(&b, "      %4d × %s\n", s.errs[e], strings.TrimSpace(e))
		}
	}
	return b.String()
}

// markdown prints summaries as a table of a document.
func markdown(list []*summary) string {
	var b strings.Builder
	b.WriteString("| fault | load | success | failed | last failure | over 500 ms after 5 s | failed while it came back | used again |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range list {
		last, used := "–", "–"
		if s.failed > 0 {
			last = fmt.Sprintf("%.1f s", s.last.Seconds())
		}
		if s.used >= 0 {
			used = fmt.Sprintf("%.1f s", s.used.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %s | %.2f%% | %d of %d | %s | %d | %d of %d | %s |\n", s.fault, s.load, s.success(), s.failed, s.sent, last, s.slow, s.laterX, s.later, used)
	}
	return b.String()
}
