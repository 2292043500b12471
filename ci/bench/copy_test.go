package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A plain copy's receiver is this program.
func TestMain(m *testing.M) {
	if is, err := isCopy(os.Args[1:]); is {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// The copier answers each line with its own figures, and ends with its input.
func TestBareCopyAnswersEachLine(t *testing.T) {
	var out strings.Builder
	if err := copies([]string{"8388608", "2"}, strings.NewReader("2\n1\n3\n"), &out); err != nil {
		t.Fatal(err)
	}
	answers := json.NewDecoder(strings.NewReader(out.String()))
	for i := range 3 {
		var a struct{ Seconds, CPU float64 }
		if err := answers.Decode(&a); err != nil || a.Seconds <= 0 || a.Seconds > 60 || a.CPU < 0 || a.CPU > 60 {
			t.Errorf("answer %d: %+v, %v", i+1, a, err)
		}
	}
	if answers.More() {
		t.Errorf("more than three: %s", out.String())
	}
	for _, wrong := range []string{"0", "two"} {
		if err := copies([]string{"8388608", "2"}, strings.NewReader(wrong), &out); err == nil {
			t.Errorf("%s copies were made", wrong)
		}
	}
}
