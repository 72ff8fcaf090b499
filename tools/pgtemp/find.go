package pgtemp

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// oldest is the first major version that will do.
const oldest = 15

// ErrNotFound means that no PostgreSQL server is installed that will do.
var ErrNotFound = errors.New("no PostgreSQL server found")

// Folders where packages put the programs besides PATH: Debian, Red Hat, source,
// Homebrew.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
}

var versionPattern = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// find returns the folder of the newest suitable server programs. A program on
// PATH may be a link or a wrapper, so only a folder that has both counts.
func find(ctx context.Context) (string, error) {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	for _, p := range places {
		found, _ := filepath.Glob(p) // errs only for bad patterns
		dirs = append(dirs, found...)
	}
	best, newest := "", 0
	for _, dir := range dirs {
		if _, err := exec.LookPath(filepath.Join(dir, "initdb")); err != nil {
			continue
		}
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
		if err != nil {
			continue
		}
		if m := versionPattern.FindSubmatch(out); m != nil {
			if v, _ := strconv.Atoi(string(m[1])); v > newest {
				best, newest = dir, v
			}
		}
	}
	switch {
	case newest == 0:
		return "", fmt.Errorf("%w on PATH or in %s; install the Debian package postgresql (version %d or newer)", ErrNotFound, places[0], oldest)
	case newest < oldest:
		return "", fmt.Errorf("%w that is new enough: %s has version %d; install the Debian package postgresql (version %d or newer)", ErrNotFound, best, newest, oldest)
	}
	return best, nil
}
