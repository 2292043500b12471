package cli

import (
	"io"
	"os"
)

// output is standard output that remembers that something could not be written: a program that says
// nothing and ends with 0 on a full disk lies to the script that reads it.
type output struct {
	*os.File
	failed error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if err != nil && o.failed == nil {
		o.failed = err
	}
	return n, err
}

// WriteString is there for io.WriteString, which would find that of the file.
func (o *output) WriteString(s string) (int, error) { return o.Write([]byte(s)) }

// unwritten is the error of a command that went well but for its output.
func (a *app) unwritten(what string) error {
	if o, ok := a.stdout.(*output); ok && o.failed != nil {
		return &Fault{Name: "CANNOT_CREATE", What: what, Why: "standard output: " + o.failed.Error(), Do: "write it where there is room", Err: o.failed}
	}
	return nil
}

// screen is w for a program's output: the terminal itself if it is one that knows how to take a line
// back, else plain bytes.
func (a *app) screen(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if o, is := w.(*output); is {
		f, ok = o.File, true
	}
	if !ok || !terminal(f) {
		return w
	}
	if t := a.getenv("TERM"); t == "dumb" || t == "" {
		return struct{ io.Writer }{w}
	}
	return f
}
