package cluster

import "syscall"

// attributes make a process end with this one, even if that is killed, and keep
// a terminal's interrupt from it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
