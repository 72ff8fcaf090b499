//go:build !linux

package cluster

import "syscall"

// attributes keep a terminal's interrupt from a process.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
