package agent

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// hangUpPath is asked for, with POST, when addresses of other zones were
// withdrawn: applications shall not wait on connections that lead there.
const hangUpPath = "/connections/end"

// silence is how long nothing must have come on a connection to an address that
// was withdrawn. One on which something comes works, whatever was found out about
// the address. Connections are looked at again after each of hangUpAgain.
const silence = 1500 * time.Millisecond

var hangUpAgain = []time.Duration{0, 2 * time.Second, 8 * time.Second}

// answerHangUp ends connections to the addresses that a question names. It
// answers after the first look; the others follow beside later questions.
func (a *admin) answerHangUp(ctx context.Context, question *http.Request) *http.Response {
	to := map[netip.AddrPort]bool{}
	for _, s := range question.URL.Query()["to"] {
		at, err := netip.ParseAddrPort(s)
		if err != nil {
			return textResponse(http.StatusBadRequest, err.Error())
		}
		to[netip.AddrPortFrom(at.Addr().Unmap(), at.Port())] = true
	}
	first := make(chan *http.Response, 1)
	go func() {
		for i, wait := range hangUpAgain {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
			n, err := hangUp(int(a.pid.Load()), to, silence)
			if n > 0 {
				a.log.Info("connections to entrances that were withdrawn are ended", "connections", n)
			}
			if i == 0 && err != nil {
				first <- textResponse(http.StatusNotImplemented, err.Error())
				return
			}
			if i == 0 {
				first <- textResponse(http.StatusOK, "")
			}
		}
	}()
	select {
	case resp := <-first:
		return resp
	case <-ctx.Done():
		return textResponse(http.StatusServiceUnavailable, "the agent stops")
	}
}
