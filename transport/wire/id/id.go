// Package id holds the identities that every room shares.
//
// An agent's number is issued by the head when the agent joins and is never used again. A process
// number is issued by an agent to each of its clients. A task, and by the same rule a group, is
// named by the process that made it, which counts for itself: minting one needs no reply. The owner
// of anything is therefore read off its name.
//
//	ID-1: no agent number is issued twice in the life of a cluster, across restarts of its head.
//	ID-2: a process never mints the same counter twice.
package id

import (
	"fmt"
	"strconv"
	"strings"
)

// Agent is the number of one run of one node's agent. Zero is the head, or nobody.
type Agent uint32

// Process is the number of a client of an agent; it is unique within that agent's number.
type Process uint32

// Task names a task, an actor or a group.
type Task struct {
	Agent   Agent
	Process Process
	Counter uint64
}

// Object names one return value of a task, or the value of a put.
type Object struct {
	Task  Task
	Index uint32
}

// IsZero tells whether t names nothing.
func (t Task) IsZero() bool { return t == Task{} }

// Compare orders tasks by agent, process and counter, for code that must not range over maps.
func (t Task) Compare(u Task) int {
	switch {
	case t.Agent != u.Agent:
		return order(t.Agent < u.Agent)
	case t.Process != u.Process:
		return order(t.Process < u.Process)
	case t.Counter != u.Counter:
		return order(t.Counter < u.Counter)
	}
	return 0
}

func order(less bool) int {
	if less {
		return -1
	}
	return 1
}

// String is the form that users see and type: "3.1.42".
func (t Task) String() string {
	return strconv.FormatUint(uint64(t.Agent), 10) + "." + strconv.FormatUint(uint64(t.Process), 10) + "." + strconv.FormatUint(t.Counter, 10)
}

// ParseTask reads what String wrote.
func ParseTask(s string) (Task, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Task{}, fmt.Errorf("id: %q is not of the form agent.process.counter", s)
	}
	var n [3]uint64
	for i, bits := range []int{32, 32, 64} {
		v, err := strconv.ParseUint(parts[i], 10, bits)
		if err != nil {
			return Task{}, fmt.Errorf("id: %q: part %d is not a number of %d bits", s, i+1, bits)
		}
		n[i] = v
	}
	return Task{Agent(n[0]), Process(n[1]), n[2]}, nil
}
