package cli

import "github.com/maniple-hpc/maniple/transport/wire/id"

// groupName is what users type for a group: "3.1.42".
func groupName(t id.Task) string {
	if t.IsZero() {
		return ""
	}
	return t.String()
}
