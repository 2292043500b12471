package hdfs

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/yarn"
)

// setupError says what keeps this process from connecting at all.
type setupError struct{ error }

// Unwrap gives what it is.
func (e *setupError) Unwrap() error { return e.error }

// loginError says that a NameNode did not let this process in: with a token, or with a ticket (nil).
type loginError struct {
	error
	token *yarn.Token
	at    time.Time
}

// Unwrap gives what the NameNode said.
func (e *loginError) Unwrap() error { return e.error }

func (e *loginError) Error() string {
	if e.token == nil {
		return e.error.Error()
	}
	if ends, known := e.token.Ends(); known && !e.at.Before(ends) {
		return fmt.Sprintf("the life of the token for HDFS was over at %s, and nobody can renew it any more (HDFS's dfs.namenode.delegation.token.max-lifetime): "+
			"submit the application again, or ask the site for a longer one", ends.UTC().Format(time.RFC3339))
	}
	return e.error.Error() + "; YARN renews the token for HDFS as long as the application that it was made for runs: without one, get a new one"
}

// nowhereError says why it is not known where a file system is.
type nowhereError struct{ error }

// answered tells whether an error is HDFS's answer, and asking again would give the same.
func answered(err error) bool {
	for _, no := range []error{os.ErrNotExist, os.ErrExist, os.ErrPermission, errReplaced} {
		if errors.Is(err, no) {
			return true
		}
	}
	return denied(err) || overQuota(err) || errors.Is(err, yarn.ErrCredentials) || errors.As(err, new(*setupError)) || errors.As(err, new(*formError))
}

// denied tells whether a NameNode says that this user may not do that. Where the library gives its word as it came errors.Is does not know it.
func denied(err error) bool {
	var said hdfs.Error
	return errors.Is(err, os.ErrPermission) || errors.As(err, &said) && strings.HasSuffix(said.Exception(), "AccessControlException")
}

// passing are the exceptions of a NameNode that is not ready yet, or is not the one to ask.
var passing = []string{"SafeModeException", "RetriableException", "StandbyException", "NotReplicatedYetException", "ServerTooBusyException"}

// refused tells the same of what a program asked for: whatever else a NameNode says is meant.
func refused(err error) bool {
	var said hdfs.Error
	if nobody(err) || errors.As(err, new(*net.OpError)) {
		return false
	}
	if answered(err) || errors.As(err, new(unix.Errno)) {
		return true
	}
	if !errors.As(err, &said) || said.Exception() == "" {
		return false
	}
	for _, class := range passing {
		if strings.HasSuffix(said.Exception(), class) {
			return false
		}
	}
	return true
}

// nobody tells whether no NameNode has answered.
func nobody(err error) bool {
	return errors.Is(err, yarn.ErrUnreachable) || errors.Is(err, yarn.ErrTooSlow)
}

// overQuota tells whether a folder has as much as the site lets it have, in bytes or in names.
func overQuota(err error) bool {
	var said hdfs.Error
	if !errors.As(err, &said) {
		return errors.Is(err, unix.EDQUOT)
	}
	class, ours := strings.CutPrefix(said.Exception(), "org.apache.hadoop.hdfs.protocol.")
	return ours && strings.Contains(class, "Quota")
}

// asFull says of such an error what those of file systems are.
func asFull(err error) error {
	if overQuota(err) && !errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", unix.EDQUOT, err)
	}
	return err
}

// blockError: a DataNode ended, or refused, while a file was being written to it, and no other one has what it had.
type blockError struct{ error }

// Unwrap gives what broke.
func (e *blockError) Unwrap() error { return e.error }

func (e *blockError) Error() string {
	return "a DataNode that it was being written to is lost, and no other one has what that had, so that it has to be written again (" + e.error.Error() + ")"
}

// ofBlock marks what no NameNode has said.
func ofBlock(err error) error {
	if err == nil || nobody(err) || answered(err) || errors.As(err, new(hdfs.Error)) || errors.Is(err, hdfs.ErrReplicating) || errors.Is(err, net.ErrClosed) {
		return err
	}
	return &blockError{err}
}

// LostDataNode tells whether a file can't be written to its end because a DataNode ended, or refused.
func LostDataNode(err error) bool { return errors.As(err, new(*blockError)) }

// formError: a file is there in a form that the library does not know, or would be if it were made.
type formError struct {
	path, form string
	made       bool
}

func (e *formError) Error() string {
	if e.made {
		return "a new file in " + path.Dir(e.path) + " would be " + e.form + ", which is not written here: choose another folder, or give this one a policy that new files are not (`hdfs ec -setPolicy -replicate -path FOLDER`)"
	}
	return e.path + " is " + e.form + ", which is not read or written here: copy it to a folder without that by `hdfs dfs -cp`"
}

// errReplaced: under a file's name there is another one now.
var errReplaced = errors.New("another file was put in its place while it was read")

// classes are exceptions of a NameNode by the end of their names.
var classes = []struct {
	class string
	errno unix.Errno
}{
	{"ParentNotDirectoryException", unix.ENOTDIR},
	{"PathIsNotDirectoryException", unix.ENOTDIR},
	{"PathIsNotEmptyDirectoryException", unix.ENOTEMPTY},
	{"FileAlreadyExistsException", unix.EEXIST},
	{"AccessControlException", unix.EACCES},
	{"FileNotFoundException", unix.ENOENT},
	{"InvalidPathException", unix.EINVAL},
	{"SafeModeException", unix.EROFS},
}

// errnoOf gives an error the number that those of file systems have, and its text in one line.
func errnoOf(err error) (unix.Errno, string) {
	var at *os.PathError
	if errors.As(err, &at) && at.Err != nil { // who asked knows the path
		err = at.Err
	}
	text, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	var said hdfs.Error
	if errors.As(err, &said) {
		text, _, _ = strings.Cut(strings.TrimSpace(said.Message()), "\n")
	}
	var number unix.Errno
	switch {
	case nobody(err):
		number = unix.ETIMEDOUT
	case errors.As(err, new(*blockError)):
		number = unix.EIO
	case errors.As(err, &number):
	case errors.Is(err, errReplaced):
		number = unix.ESTALE
	case errors.As(err, new(*formError)):
		number = unix.EOPNOTSUPP
	case errors.As(err, new(*nowhereError)):
		number = unix.EINVAL
	case errors.As(err, new(*setupError)), errors.Is(err, yarn.ErrCredentials):
		number = unix.EACCES
	case errors.Is(err, os.ErrNotExist):
		return unix.ENOENT, unix.ENOENT.Error()
	case errors.Is(err, os.ErrExist):
		return unix.EEXIST, unix.EEXIST.Error()
	case errors.Is(err, os.ErrPermission):
		return unix.EACCES, unix.EACCES.Error()
	case errors.Is(err, os.ErrInvalid):
		number = unix.EINVAL
	case said == nil: // nobody answered
		number = unix.ETIMEDOUT
	default:
		number = unix.EIO
		for _, c := range classes {
			if said != nil && strings.HasSuffix(said.Exception(), c.class) {
				number = c.errno
				break
			}
		}
	}
	return number, text
}
