package policy

import "regexp"

var (
	unixPath    = regexp.MustCompile(`^(/[^/\x00\r\n]*)+/?$`)
	windowsPath = regexp.MustCompile(`^[a-zA-Z]:\\(?:[^\\/:*?"<>|\r\n]+\\)*[^\\/:*?"<>|\r\n]*$`)
)

// IsFilePath tells whether s is an absolute path on the host of a proxy, which
// need not be the kind of host that the control plane runs on.
func IsFilePath(s string) bool { return unixPath.MatchString(s) || windowsPath.MatchString(s) }
