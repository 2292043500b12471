package hdfs

import (
	"errors"
	"testing"
)

// A file of which not all was written takes no place, whoever asks for it again.
func TestHalfAFileTakesNoPlace(t *testing.T) {
	full := errors.New("over quota")
	d := draft{failed: full}
	if err := d.write([]byte("more")); err != full {
		t.Error(err)
	}
	if err := d.finish(); err != full {
		t.Error(err)
	}
}
