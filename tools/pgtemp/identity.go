package pgtemp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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

// freePort looks below the ports that outgoing connections get, so that the port
// is still free when the server starts again after a stop.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.N(12000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("found no free port between 20000 and 32000")
}
