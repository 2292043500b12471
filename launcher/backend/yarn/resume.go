package yarn

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/maniple-hpc/maniple/yarn"
	"github.com/maniple-hpc/maniple/yarn/am"
)

const (
	meetTime  = 20 * time.Second // for all nodes of the master before this one to answer, and for one of them to be found
	callTime  = 3 * time.Second  // for one of a node's ports
	startTime = 5 * time.Second  // for the process in a container whose machine says that there is none yet
)

// survivor is a node of the master before this one.
type survivor struct {
	handover
	container yarn.Container
	journal   []byte
	link      *link
}

// Recover finds what the masters before this one left: nodes that go on, and in them the head's journal. Without a word of any of them the
// program begins anew. A ResourceManager that was started anew meanwhile knows nodes only from when their NodeManagers have reported, and grants nothing new
// for a while: as long as none has answered, those are waited for.
func (m *Master) Recover(ctx context.Context) error {
	m.Life = uint32(m.Attempt.Number - 1)
	if m.Attempt.Number == 1 {
		return nil
	}
	m.came = make(chan struct{}, 1)
	if err := m.register(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	var all []survivor
	answers, calling, over := make(chan *survivor), 0, ctx.Done()
	call := func(c yarn.Container) {
		if c.ID.Attempt == m.Attempt && c.ID.First() {
			return // this process's own
		}
		calling++
		go func() {
			v, err := m.call(ctx, c)
			if err != nil {
				m.giveBack(c, err)
				answers <- nil
				return
			}
			answers <- &v
		}()
	}
	for _, c := range m.master.Registered().Containers {
		call(c)
	}
	for calling > 0 || len(all) == 0 && over != nil {
		select {
		case <-m.came:
			for _, c := range m.found() {
				call(c)
			}
		case v := <-answers:
			if calling--; v != nil {
				all = append(all, *v)
			}
		case <-over:
			over = nil
		}
	}
	m.kept = m.choose(all)
	if len(m.kept) > 0 {
		m.Life = m.kept[0].Life
		m.copies = newCopies(m.kept[0].journal, m.kept[0].Seq)
	}
	return nil
}

// found takes out of what came before the session what containers were found.
func (m *Master) found() (list []yarn.Container) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.early = slices.DeleteFunc(m.early, func(e am.Event) bool {
		f, is := e.(am.Found)
		if is {
			list = append(list, f.Container)
		}
		return is
	})
	return list
}

// giveBack gives back a container of a master before this one.
func (m *Master) giveBack(c yarn.Container, why error) {
	m.say("container %s of the master before this one is given back: %v", c.ID, why)
	m.master.Release(c.ID)
}

// Resumed tells whether this master goes on with what another one began.
func (m *Master) Resumed() bool { return len(m.kept) > 0 }

// choose takes the nodes that belong together, the one with the newest copy of the journal first, and gives back the others. The newest one is
// by the last master that sent any: what one before it sent to a node that this one could not reach has as many pieces, and is void.
func (m *Master) choose(all []survivor) []survivor {
	slices.SortFunc(all, func(a, b survivor) int {
		return cmp.Or(cmp.Compare(b.Attempt, a.Attempt), cmp.Compare(b.Seq, a.Seq), cmp.Compare(a.Node, b.Node))
	})
	var list []survivor
	for _, v := range all {
		same := func(o survivor) bool { return o.Node == v.Node }
		if len(all[0].journal) > 0 && v.Life == all[0].Life && m.place(v.Node) >= 0 && !slices.ContainsFunc(list, same) {
			list = append(list, v)
			continue
		}
		v.link.close()
		m.giveBack(v.container, fmt.Errorf("node %s does not belong to what goes on", v.Node))
	}
	return list
}

// place is a node's index, -1 if there is none of that name.
func (m *Master) place(name string) int {
	for i := range m.Job.Nodes {
		if name == nodeName(i) {
			return i
		}
	}
	return -1
}

func nodeName(place int) string { return "n" + strconv.Itoa(place+1) }

// call finds the node in a container, at one of the ports at which it waits. A machine that is slow is tried until ctx ends, one that
// refuses all of them as long as a process needs to start.
func (m *Master) call(ctx context.Context, c yarn.Container) (v survivor, err error) {
	key, err := keyOf(m.Job.Cluster, m.Job.Secret, partyMaster)
	if err != nil {
		return v, err
	}
	node, err := keyOf(m.Job.Cluster, m.Job.Secret, partyNode)
	if err != nil {
		return v, err
	}
	cfg, err := config(key, node.Public().(ed25519.PublicKey))
	if err != nil {
		return v, err
	}
	for began := time.Now(); ; {
		v, refused, err := m.callOnce(ctx, c, cfg)
		switch {
		case err == nil:
			return v, nil
		case ctx.Err() != nil || errors.Is(err, errTaken) || refused && time.Since(began) > startTime:
			return v, fmt.Errorf("no node answers there: %w", err)
		}
		select {
		case <-time.After(redialTime):
		case <-ctx.Done():
		}
	}
}

// callOnce tries each port. refused: its machine says that nobody is at any of them.
func (m *Master) callOnce(ctx context.Context, c yarn.Container, cfg *tls.Config) (v survivor, refused bool, err error) {
	ports := meeting(m.Job.Cluster, c.ID.String())
	type answer struct {
		survivor
		err error
	}
	answers := make(chan answer, len(ports))
	for _, port := range ports { // at one of which it is, and elsewhere nobody of ours
		go func() {
			ctx, cancel := context.WithTimeout(ctx, callTime)
			defer cancel()
			d := &tls.Dialer{Config: cfg}
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(c.Node.Host, strconv.Itoa(port)))
			if err != nil {
				answers <- answer{err: err}
				return
			}
			v, err := m.meet(conn, c)
			if err != nil {
				_ = conn.Close()
			}
			answers <- answer{v, err}
		}()
	}
	refused = true
	for range ports {
		a := <-answers
		if a.err == nil {
			return a.survivor, false, nil
		}
		if !errors.Is(a.err, syscall.ECONNREFUSED) || err == nil {
			err = a.err // the one that says most
		}
		refused = refused && errors.Is(a.err, syscall.ECONNREFUSED)
	}
	return v, refused, err
}

// errTaken is a node's answer to a master that is none any more.
var errTaken = errors.New("the node has a later master")

// meet takes a node over.
func (m *Master) meet(conn net.Conn, c yarn.Container) (v survivor, err error) {
	_ = conn.SetDeadline(time.Now().Add(helloTime))
	line, _ := json.Marshal(takeover{c.ID.String(), m.Attempt.Number, m.relays})
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return v, err
	}
	in := bufio.NewReader(conn)
	answer, err := in.ReadBytes('\n')
	if err != nil {
		return v, err
	}
	var no taken
	if json.Unmarshal(answer, &no) == nil && no.By > 0 {
		return v, fmt.Errorf("%w, attempt %d", errTaken, no.By)
	}
	if err := json.Unmarshal(answer, &v.handover); err != nil {
		return v, err
	}
	if v.Journal < 0 || v.Journal > maxCopy {
		return v, fmt.Errorf("a journal of %d bytes", v.Journal)
	}
	v.journal = make([]byte, v.Journal)
	if _, err := io.ReadFull(in, v.journal); err != nil {
		return v, err
	}
	_ = conn.SetDeadline(time.Time{})
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	v.container, v.link = c, newLink(conn, lines)
	return v, nil
}
