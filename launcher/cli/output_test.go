package cli

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// A program's output goes to a terminal as such only if that can take a line back.
func TestScreen(t *testing.T) {
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer tty.Close()
	for term, want := range map[string]bool{"xterm": true, "dumb": false, "": false} {
		a, _, _ := newApp(map[string]string{"TERM": term})
		if got := terminal(a.screen(&output{File: tty})); got != want {
			t.Errorf("TERM=%q: a terminal %v, want %v", term, got, want)
		}
	}
	if !terminal(&output{File: tty}) {
		t.Error("a wrapped terminal is none")
	}
}

// What a gang's marked lines become.
func TestRecords(t *testing.T) {
	var out, messages bytes.Buffer
	r := &records{to: &out, messages: &messages, stream: "stderr", marked: true}
	for _, s := range []string{"[0] a\n[1-2,", "4] b] c\n", "maniple: a message\n", "[x40 ranks] d\n", "[0] \xff\n", "[y] z\n", "[3] rest"} {
		if n, err := r.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("%q: %d, %v", s, n, err)
		}
	}
	want := `{"version":1,"event":"output","ranks":[0],"stream":"stderr","text":"a"}
{"version":1,"event":"output","ranks":[1,2,4],"stream":"stderr","text":"b] c"}
{"version":1,"event":"output","count":40,"stream":"stderr","text":"d"}
{"version":1,"event":"output","ranks":[0],"stream":"stderr","text":"\ufffd"}
`
	if out.String() != want {
		t.Errorf("records:\n%swant:\n%s", out.String(), want)
	}
	if messages.String() != "maniple: a message\n[y] z\n" {
		t.Errorf("messages: %q", messages.String())
	}
	r = &records{to: &out, stream: "stdout"} // a batch job's output bears no marks
	out.Reset()
	r.Write([]byte("[0] as it is\n"))
	if !strings.Contains(out.String(), `"text":"[0] as it is"`) {
		t.Errorf("unmarked: %s", out.String())
	}
}
