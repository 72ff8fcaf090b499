//go:build !linux

package pgtemp

import "syscall"

// attributes: only Linux can make a program end with its parent.
func (i *identity) attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: i.credential}
}
