package pgtemp

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// identity is who the server runs as. PostgreSQL refuses to run as root.
type identity struct {
	name       string
	credential *syscall.Credential // nil: as this process
	uid, gid   int
}

func unprivileged() (*identity, error) {
	if os.Geteuid() != 0 {
		return &identity{name: "this user"}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		return &identity{
			name: name, uid: int(uid), gid: int(gid),
			credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
		}, nil
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is neither a user postgres nor nobody; install the Debian package postgresql, or run as another user")
}

// own gives a file to the identity.
func (i *identity) own(path string) error {
	if i.credential == nil {
		return nil
	}
	if err := os.Chown(path, i.uid, i.gid); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, i.name, err)
	}
	return nil
}
