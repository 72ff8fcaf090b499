package pgtemp

import "syscall"

// attributes make a program end with this process, even if that is killed.
func (i *identity) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: i.credential, Pdeathsig: syscall.SIGQUIT}
}
