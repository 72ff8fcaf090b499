package auth

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// Every kind of token reports its use, the invalid ones without what they claim.
func TestTokensReportTheirUse(t *testing.T) {
	var got []string
	s := secrets{
		global("user-token-signing-key-1"): keys()[0], global("zone-token-signing-key-1"): keys()[0],
		meshed("m", "dataplane-token-signing-key-m-1"): keys()[1],
	}
	tokens := newTokens(t, s, func(c *Config) {
		c.Used = func(u Use) {
			got = append(got, fmt.Sprintf("%s %s %t %t", u.Kind, u.Subject, u.ID != "", errors.Is(u.Err, ErrInvalidToken)))
			if u.Err == nil && u.Expires.IsZero() {
				t.Errorf("%+v never ends", u)
			}
		}
	})
	issue := func(token string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	user := issue(tokens.IssueUser(UserClaims{Name: "jane"}, time.Hour))
	zone := issue(tokens.IssueZone(ZoneClaims{Zone: "east"}, time.Hour))
	named := issue(tokens.IssueDataplane(DataplaneClaims{Mesh: "m", Name: "web-1"}, time.Hour))
	any := issue(tokens.IssueDataplane(DataplaneClaims{Mesh: "m"}, time.Hour))
	_, _ = tokens.User(user)
	_, _ = tokens.Zone(zone)
	_, _ = tokens.Dataplane(named, "m")
	_, _ = tokens.Dataplane(any, "m")
	_, _ = tokens.User(named)
	_, _ = tokens.Zone(user[:len(user)-4])
	want := []string{"user jane true false", "zone east true false", "dataplane m/web-1 true false", "dataplane m true false", "user  false true", "zone  false true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUsesAreBounded(t *testing.T) {
	now := time.Unix(0, 0)
	var got []string
	u := NewUses(time.Hour, 3, func() time.Time { return now }, func(u Use, missed int) {
		got = append(got, fmt.Sprintf("%s %v %d", u.ID, u.Err, missed))
	})
	for range 100 {
		for _, id := range []string{"a", "b"} {
			u.Note(Use{Kind: TokenUser, ID: id})
		}
		u.Note(Use{Kind: TokenUser, Err: errors.New("bad")})
	}
	for i := range 7 { // beyond the limit
		u.Note(Use{Kind: TokenZone, ID: fmt.Sprint(i)})
	}
	now = now.Add(time.Hour)
	u.Note(Use{Kind: TokenUser, ID: "a"})
	u.Note(Use{Kind: TokenUser, ID: "b"})
	if want := []string{"a <nil> 0", "b <nil> 0", " bad 0", "a <nil> 7", "b <nil> 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
