package hdfs

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// protocolVersion is of what is said between a program and this. Both come with one wheel; an older one of a program's own is refused by name.
const protocolVersion = 1

// Variables are those of a program that say where HDFS is and who it is there. They are paths and names: no secret is in them.
var Variables = []string{
	"HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_HOME", "HADOOP_USER_NAME", "HADOOP_TOKEN_FILE_LOCATION", "CONTAINER_ID", "USER",
	"KRB5_CONFIG", "KRB5CCNAME", "MANIPLE_PRINCIPAL", "MANIPLE_KEYTAB",
}

// listed is how many entries a reply has.
const listed = 1000

// Server does for programs on HDFS what each of them might do itself. It owns a client for each file system and user that a connection is
// about, as long as there is one.
type Server struct {
	Say func(string) // what a program is told of that it waits for; nil: nothing

	mu      sync.Mutex
	clients map[string]*lent
}

// lent is a client and how many connections use it.
type lent struct {
	*Client
	users int
}

// take gives the client for a hello.
func (s *Server) take(a ask) (c *Client, give func(), err error) {
	key := a.Server
	for _, name := range Variables {
		key += "\x00" + a.Env[name]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients == nil {
		s.clients = map[string]*lent{}
	}
	l := s.clients[key]
	if l == nil {
		made, err := New(scheme+a.Server, func(name string) string { return a.Env[name] })
		if err != nil {
			return nil, nil, err
		}
		if s.Say != nil {
			made.say = func(err error) {
				s.Say(fmt.Sprintf("%s: %s; it is asked again for %v", made.uri, oneLine(err), patience))
			}
		}
		l = &lent{Client: made}
		s.clients[key] = l
	}
	l.users++
	return l.Client, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(s.clients, key)
			l.Close()
		}
	}, nil
}

// session is one connection: requests one after the other, with one open file at most. Its goroutine owns it.
type session struct {
	out  *bufio.Writer
	c    *Client
	r    *reader
	w    *draft
	page []byte // what is read goes here
}

// Serve does what a program asks for by a connection, until that ends. What it was writing then is removed.
func (s *Server) Serve(conn net.Conn) {
	defer conn.Close()
	in, x := bufio.NewReaderSize(conn, 4096), &session{out: bufio.NewWriterSize(conn, 4096)}
	first, _, err := readFrame(in, nil)
	if err != nil {
		return
	}
	if first.Op != "hello" || first.Version != protocolVersion {
		_ = x.say(fmt.Errorf("%w: the program's maniple speaks version %d of this, its node's %d: install the same one", unix.EPROTONOSUPPORT, first.Version, protocolVersion), reply{})
		return
	}
	c, give, err := s.take(first)
	if err != nil {
		_ = x.say(&nowhereError{err}, reply{})
		return
	}
	defer give()
	x.c = c
	defer x.drop()
	var buf []byte
	for err = x.say(nil, reply{}); err == nil; {
		var a ask
		if a, buf, err = readFrame(in, buf); err == nil {
			err = x.do(a, buf)
		}
	}
}

// say answers.
func (x *session) say(err error, r reply) error {
	if err != nil {
		number, text := errnoOf(err)
		r = reply{Errno: int(number), Error: text}
	}
	return writeFrame(x.out, r, nil)
}

// drop forgets the open file.
func (x *session) drop() {
	if x.r != nil {
		_ = x.r.Close()
		x.r = nil
	}
	if x.w != nil {
		x.w.discard()
		x.w = nil
	}
}

// do does what is asked for, and answers; an error is the connection's end.
func (x *session) do(a ask, data []byte) error {
	info := func(e entry, err error) error { return x.say(err, reply{Info: &e}) }
	switch a.Op {
	case "stat":
		return info(x.c.stat(a.Path))
	case "list":
		return x.list(a.Path)
	case "mkdir":
		return x.say(x.c.mkdir(a.Path, a.Parents, a.Exclusive), reply{})
	case "remove":
		return x.say(x.c.remove(a.Path, a.Recursive), reply{})
	case "rename":
		return x.say(x.c.rename(a.Path, a.To, 0), reply{})
	case "open":
		return info(x.open(a.Path, a.ID))
	case "read":
		return x.read(a.At, a.Size)
	case "create":
		x.drop()
		w, err := x.c.create(a.Path, a.Exclusive)
		if err == nil {
			x.w = w
		}
		return x.say(err, reply{})
	case "write", "finish", "commit", "discard":
		return x.say(x.draft(a.Op, data), reply{})
	}
	return x.say(fmt.Errorf("%w: no request is called %q", unix.EINVAL, a.Op), reply{})
}

func (x *session) list(path string) error {
	all, err := x.c.list(path)
	if err != nil {
		return x.say(err, reply{})
	}
	for some := range slices.Chunk(all, listed) {
		if err := x.say(nil, reply{List: some, More: true}); err != nil {
			return err
		}
	}
	return x.say(nil, reply{})
}

func (x *session) open(path string, id uint64) (entry, error) {
	x.drop()
	r := &reader{c: x.c, name: clean(path), id: id}
	if err := r.open(refused); err != nil {
		return entry{}, err
	}
	if id != 0 {
		r.size = r.f.Stat().Size()
	}
	x.r = r
	return entryOf(r.f.Stat()), nil
}

func (x *session) read(at int64, size int) error {
	if x.r == nil || at < 0 || size < 0 || size > maxBytes {
		return x.say(fmt.Errorf("%w: no file is open, or %d bytes from %d on can't be read", unix.EINVAL, size, at), reply{})
	}
	if cap(x.page) < size {
		x.page = make([]byte, size)
	}
	n, err := x.r.ReadAt(x.page[:size], at)
	if err != nil && !errors.Is(err, io.EOF) {
		return x.say(err, reply{})
	}
	return writeFrame(x.out, reply{}, x.page[:n])
}

// draft goes on with the file that is written.
func (x *session) draft(op string, data []byte) error {
	if x.w == nil {
		return fmt.Errorf("%w: no file is being written", unix.EBADF)
	}
	switch op {
	case "write":
		return x.w.write(data)
	case "finish":
		return x.w.finish()
	case "commit":
		err := x.w.commit()
		x.w = nil
		return err
	}
	x.drop()
	return nil
}

// Main is `maniple hdfs-server`, which a program starts for itself and what it forks where its node has no agent: each message at its standard input, a socket, brings a
// connection. It ends when nobody has the other end of that any more.
func Main() int {
	ignoreSignals()
	thrift()
	control, err := net.FileConn(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "maniple: hdfs-server: a program starts it for itself:", err)
		return 64
	}
	socket, ok := control.(*net.UnixConn)
	if !ok {
		fmt.Fprintln(os.Stderr, "maniple: hdfs-server: a program starts it for itself")
		return 64
	}
	s := Server{Say: func(text string) { fmt.Fprintln(os.Stderr, "maniple:", text) }}
	var all sync.WaitGroup
	for {
		conn, err := receive(socket)
		if err != nil {
			break
		}
		all.Go(func() { s.Serve(conn) })
	}
	all.Wait()
	return 0
}

// receive takes the next connection in.
func receive(socket *net.UnixConn) (net.Conn, error) {
	for {
		one, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
		n, have, _, _, err := socket.ReadMsgUnix(one, rights)
		if err != nil || n == 0 {
			return nil, cmp.Or(err, io.EOF)
		}
		messages, err := unix.ParseSocketControlMessage(rights[:have])
		if err != nil || len(messages) == 0 {
			continue
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		f := os.NewFile(uintptr(fds[0]), "connection")
		conn, err := net.FileConn(f)
		_ = f.Close()
		if err == nil {
			return conn, nil
		}
	}
}

// oneLine is the first line of an error.
func oneLine(err error) string {
	text, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return text
}

// clean is a path as HDFS has it. Hadoop's own clients send no other, and the NameNode takes none with //, . or .. in it.
func clean(name string) string { return path.Clean("/" + name) }
