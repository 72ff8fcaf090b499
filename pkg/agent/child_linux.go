package agent

import "syscall"

// childAttributes puts Envoy into a process group of its own and ties its life to
// the agent's, also when that is killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
