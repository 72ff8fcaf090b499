package rest

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/atoll-mesh/atoll/pkg/auth"
	"github.com/atoll-mesh/atoll/pkg/resource"
)

// titleToken is what wrong token requests are answered with.
const titleToken = "Invalid request"

func (a *API) dataplaneToken(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name     string              `json:"name"`
		Mesh     string              `json:"mesh"`
		Tags     map[string][]string `json:"tags"`
		Type     string              `json:"type"`
		Workload string              `json:"workload"`
		ValidFor string              `json:"validFor"`
	}
	if err := a.Access.DPToken(auth.UserFrom(r.Context()), nil); err != nil {
		return err
	}
	if err := a.readRequest(w, r, &in); err != nil {
		return err
	}
	if err := a.Access.DPToken(auth.UserFrom(r.Context()), &in.Mesh); err != nil {
		return err
	}
	var errs resource.FieldErrors
	validFor := parseValidity(&errs, in.ValidFor, false)
	if in.Mesh == "" {
		errs.Add("mesh", "cannot be empty")
	}
	if in.Type != "" && in.Type != "dataplane" {
		errs.Add("type", "must be empty or %q, got %q", "dataplane", in.Type)
	}
	if err := invalid(titleToken, errs); err != nil {
		return err
	}
	if in.Tags == nil {
		in.Tags = map[string][]string{}
	}
	noteAudit(r.Context(), slog.String("token", "dataplane"), slog.String("mesh", in.Mesh), slog.String("name", in.Name), slog.String("workload", in.Workload), slog.Duration("validFor", validFor))
	token, err := a.Tokens.IssueDataplane(auth.DataplaneClaims{
		Name: in.Name, Mesh: in.Mesh, Tags: in.Tags, Type: in.Type, Workload: in.Workload,
	}, validFor)
	return answerToken(w, token, err)
}

func (a *API) zoneToken(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Zone     string   `json:"zone"`
		Scope    []string `json:"scope"`
		ValidFor string   `json:"validFor"`
	}
	if err := a.Access.ZoneToken(auth.UserFrom(r.Context()), nil); err != nil {
		return err
	}
	if err := a.readRequest(w, r, &in); err != nil {
		return err
	}
	if err := a.Access.ZoneToken(auth.UserFrom(r.Context()), &in.Zone); err != nil {
		return err
	}
	var errs resource.FieldErrors
	validFor := parseValidity(&errs, in.ValidFor, false)
	if in.Zone == "" {
		errs.Add("zone", "cannot be empty")
	}
	if err := invalid(titleToken, errs); err != nil {
		return err
	}
	noteAudit(r.Context(), slog.String("token", "zone"), slog.String("zone", in.Zone), slog.Any("scope", in.Scope), slog.Duration("validFor", validFor))
	token, err := a.Tokens.IssueZone(auth.ZoneClaims{Zone: in.Zone, Scope: in.Scope}, validFor)
	return answerToken(w, token, err)
}

func (a *API) userToken(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Name     string   `json:"name"`
		Groups   []string `json:"groups"`
		ValidFor string   `json:"validFor"`
	}
	if err := a.Access.UserToken(auth.UserFrom(r.Context())); err != nil {
		return err
	}
	if err := a.readRequest(w, r, &in); err != nil {
		return err
	}
	var errs resource.FieldErrors
	validFor := parseValidity(&errs, in.ValidFor, true)
	if in.Name == "" {
		errs.Add("name", "cannot be empty")
	}
	if err := invalid(titleToken, errs); err != nil {
		return err
	}
	noteAudit(r.Context(), slog.String("token", "user"), slog.String("name", in.Name), slog.Any("tokenGroups", in.Groups), slog.Duration("validFor", validFor))
	token, err := a.Tokens.IssueUser(auth.UserClaims{Name: in.Name, Groups: in.Groups}, validFor)
	return answerToken(w, token, err)
}

// readRequest decodes a body that is no resource.
func (a *API) readRequest(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) && typ.Field != "" {
			return invalid(titleToken, resource.FieldErrors{{Field: typ.Field, Reason: "must be of type " + typ.Type.String() + ", got " + typ.Value}})
		}
		return badRequest("invalid request: %s", position(body, err))
	}
	return nil
}

func parseValidity(errs *resource.FieldErrors, text string, required bool) time.Duration {
	if text == "" {
		if required {
			errs.Add("validFor", "cannot be empty")
		}
		return auth.DefaultValidity
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		errs.Add("validFor", "must be a duration such as 24h, got %q", text)
	} else if d <= 0 {
		errs.Add("validFor", "must be greater than 0")
	}
	return d
}

func answerToken(w http.ResponseWriter, token string, err error) error {
	if err != nil {
		return titled("Could not issue a token", err)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(token))
	return nil
}
