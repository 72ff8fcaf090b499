package dpserver

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/atoll-mesh/atoll/pkg/resource"
	"github.com/atoll-mesh/atoll/pkg/xds"
)

// What agents are told beside their Envoys' own configuration travels through
// those: Envoy answers for it on a socket of the machine. It does not say when
// the answer changed, so that is said here, once Envoy has acknowledged it, and
// no agent has to keep asking.

const (
	// configurationPath is what agents are asked for, to have them look.
	configurationPath = "/configuration"
	// toldRoutes are the routes by which Envoy answers.
	toldRoutes = "system_dynamicconfig"
)

// newTold reports whether the proxy acknowledged something new for its agent. It
// takes note of it.
func (s *session) newTold() bool {
	set := s.Set()
	s.mu.Lock()
	defer s.mu.Unlock()
	if set == nil || s.report.Revision == 0 || s.report.Revision < set.Revision {
		return false // another report will come
	}
	version := ""
	if r := set.Source(xds.Routes).Get(toldRoutes); r != nil {
		version = r.Version
	}
	if s.told != nil && *s.told == version {
		return false
	}
	s.told = &version
	return true
}

// tells tells whether this side knows what a proxy has acknowledged for its agent,
// and so when there is something new.
func (s *Server) tells(id resource.ID) bool {
	sess := s.proxies.at(id)
	if sess == nil {
		return false
	}
	sess.mu.Lock()
	defer sess.mu.Unlock()
	return sess.told != nil
}

// tellAgent has the agent of a proxy look at what it is told, and promises to do
// so each time as long as the proxy is connected here. It returns at once.
func (s *Server) tellAgent(id resource.ID, c *channel) {
	if c == nil {
		return
	}
	go func() {
		for {
			tells := s.tells(id)
			ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
			_, err := c.call(ctx, http.MethodPost, configurationPath+"?"+url.Values{"tells": {strconv.FormatBool(tells)}}.Encode())
			cancel()
			if err != nil {
				s.log.Debug("an agent is not told of what is new for it", "mesh", id.Mesh, "proxy", id.Name, "reason", err)
				return
			}
			if tells == s.tells(id) { // or somebody else has told it otherwise meanwhile
				return
			}
		}
	}()
}
