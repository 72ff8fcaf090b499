//go:build !linux

package agent

import "syscall"

// childAttributes puts Envoy into a process group of its own.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
