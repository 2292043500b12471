package cli

import (
	"github.com/maniple-hpc/maniple/transport/wire/fb"
	"github.com/maniple-hpc/maniple/transport/wire/id"
)

func groupID(t *fb.TaskIDT) id.Task {
	return id.Task{Agent: id.Agent(t.Agent), Process: id.Process(t.Process), Counter: t.Counter}
}

// groupName is what users type for a group: "3.1.42".
func groupName(t id.Task) string {
	if t.IsZero() {
		return ""
	}
	return t.String()
}
