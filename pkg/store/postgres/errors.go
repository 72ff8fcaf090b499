package postgres

import (
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// broken tells errors of a connection from answers of the server.
func broken(err error) bool {
	if err == nil || errors.Is(err, pgx.ErrNoRows) {
		return false
	}
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return true // network, timeout, or the server refuses connections
	}
	switch answer.Code[:2] {
	case "08", // connection exception
		"57": // operator intervention: shutting down, crashing, starting
		return true
	}
	return answer.Code == "25006" // read only: the server has become a standby
}

// passing tells answers after which nothing was written and that a later try may
// not get.
func passing(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Code[:2] {
	case "25", // invalid transaction state
		"40", // rollback: serialization failure, deadlock
		"53", // insufficient resources: disk full, too many connections
		"55", // object not in prerequisite state: lock not available
		"58": // system error
		return true
	}
	return false
}

// hopeless tells answers to a connection attempt that waiting cannot change.
func hopeless(err error) bool {
	var answer *pgconn.PgError
	if !errors.As(err, &answer) {
		return false
	}
	return answer.Code[:2] == "28" || // authentication
		slices.Contains([]string{"3D000", "42501"}, answer.Code) // no such database, no permission
}

func undefinedTable(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "42P01"
}
