package yarn

import (
	"fmt"
	"strconv"
	"strings"
)

// ApplicationID names an application; its text is application_<cluster timestamp>_<number>.
type ApplicationID struct {
	Number           int32 `pb:"1"`
	ClusterTimestamp int64 `pb:"2"` // when the ResourceManager that gave it started, in milliseconds since 1970
}

// AttemptID names one run of an application's master; attempts count from 1.
type AttemptID struct {
	Application ApplicationID `pb:"1"`
	Number      int32         `pb:"2"`
}

// ContainerID names a container. Its number has the epoch, which counts restarts of the ResourceManager, in
// the bits above the lower forty.
type ContainerID struct {
	Attempt AttemptID `pb:"2"`
	Number  int64     `pb:"3"`
}

const epochBits = 40

func (a ApplicationID) String() string {
	return fmt.Sprintf("application_%d_%04d", a.ClusterTimestamp, a.Number)
}

func (a AttemptID) String() string {
	return fmt.Sprintf("appattempt_%d_%04d_%06d", a.Application.ClusterTimestamp, a.Application.Number, a.Number)
}

func (c ContainerID) String() string {
	epoch := ""
	if e := c.Number >> epochBits; e > 0 {
		epoch = fmt.Sprintf("e%02d_", e)
	}
	a := c.Attempt.Application
	return fmt.Sprintf("container_%s%d_%04d_%02d_%06d", epoch, a.ClusterTimestamp, a.Number, c.Attempt.Number, c.Number&(1<<epochBits-1))
}

// First tells whether it is the first container of its attempt: that of its master, unless YARN starts none.
func (c ContainerID) First() bool { return c.Number&(1<<epochBits-1) == 1 }

// ParseApplicationID reads the text of an application's ID.
func ParseApplicationID(s string) (ApplicationID, error) {
	n, ok := numbers(s, "application_", 2)
	if !ok || n[1] > 1<<31-1 {
		return ApplicationID{}, fmt.Errorf("yarn: %q is no application; one looks like application_1700000000000_0001", s)
	}
	return ApplicationID{int32(n[1]), n[0]}, nil
}

// ParseContainerID reads the text of a container's ID, as a container finds it in CONTAINER_ID.
func ParseContainerID(s string) (ContainerID, error) {
	rest, epoch := s, int64(0)
	if after, ok := strings.CutPrefix(s, "container_e"); ok {
		e, tail, _ := strings.Cut(after, "_")
		n, err := strconv.ParseInt(e, 10, 63-epochBits)
		if err != nil || n < 0 {
			tail = "" // fails below
		}
		rest, epoch = "container_"+tail, n
	}
	n, ok := numbers(rest, "container_", 4)
	if !ok || n[1] > 1<<31-1 || n[2] > 1<<31-1 || n[3] >= 1<<epochBits {
		return ContainerID{}, fmt.Errorf("yarn: %q is no container; one looks like container_1700000000000_0001_01_000001", s)
	}
	app := ApplicationID{int32(n[1]), n[0]}
	return ContainerID{AttemptID{app, int32(n[2])}, epoch<<epochBits | n[3]}, nil
}

// numbers reads count numbers behind a prefix, with _ between them.
func numbers(s, prefix string, count int) ([]int64, bool) {
	rest, ok := strings.CutPrefix(s, prefix)
	parts := strings.Split(rest, "_")
	if !ok || len(parts) != count {
		return nil, false
	}
	out := make([]int64, count)
	for i, p := range parts {
		n, err := strconv.ParseInt(p, 10, 64)
		if err != nil || n < 0 || p[0] == '+' {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}
