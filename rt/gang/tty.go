package gang

import (
	"os"

	"golang.org/x/sys/unix"
)

// tty is the user's terminal in raw mode: every key goes to the program, Ctrl-C too.
type tty struct {
	fd  int
	old unix.Termios
}

// rawMode puts a terminal in raw mode; nil if f is none.
func rawMode(f *os.File) *tty {
	fd := int(f.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil
	}
	raw := *old
	// termios(3), cfmakeraw.
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag &^= unix.CSIZE | unix.PARENB
	raw.Cflag |= unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil
	}
	return &tty{fd: fd, old: *old}
}

// restore gives the terminal back as it was.
func (t *tty) restore() {
	if t != nil {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETSW, &t.old)
	}
}

// size is the terminal's size, 0, 0 if it does not say.
func (t *tty) size() (rows, cols uint16) {
	ws, err := unix.IoctlGetWinsize(t.fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return ws.Row, ws.Col
}

// isTerminal tells whether f is a terminal.
func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
