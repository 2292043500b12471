package hdfs

import (
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// writer ends once the blocks are where HDFS wants them.
type writer struct{ *hdfs.FileWriter }

// Write is io.Writer's.
func (w writer) Write(b []byte) (int, error) {
	n, err := w.FileWriter.Write(b)
	return n, asFull(err)
}

// Close waits a while for the last block's copies.
func (w writer) Close() error {
	for wait, began := again, time.Now(); ; wait = min(2*wait, rarely) {
		err := w.FileWriter.Close()
		if err == nil || !hdfs.IsErrReplicating(err) || time.Since(began) > patience {
			return asFull(err)
		}
		time.Sleep(wait)
	}
}
