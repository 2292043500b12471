package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/maniple-hpc/maniple/rt/agent"
)

// reader reads a file: what it was told of by one request, else each piece by one of its own. One that broke goes on by another behind
// what came.
type reader struct {
	s       *Store
	key     string
	told    int64 // up to there goes what is read next
	body    io.ReadCloser
	at, end int64 // of body
	cancel  context.CancelFunc
}

// Open is agent.SpillFS's. Whether there is such a file the first read tells.
func (s *Store) Open(name string) (agent.SpillReader, error) {
	return &reader{s: s, key: s.key(name)}, nil
}

// Ahead is spill.Ahead's.
func (r *reader) Ahead(off, n int64) { r.told = off + n }

// Size is how large the file is.
func (r *reader) Size() (n int64, err error) {
	err = r.s.again(context.Background(), r.s.patience, func(ctx context.Context) error {
		out, err := r.s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &r.s.bucket, Key: &r.key})
		if err == nil {
			n = aws.ToInt64(out.ContentLength)
		}
		return err
	})
	return n, err
}

// ReadAt is io.ReaderAt's, for one goroutine at a time.
func (r *reader) ReadAt(b []byte, off int64) (n int, err error) {
	late := time.Now().Add(r.s.patience)
	for n < len(b) {
		if r.body == nil || r.at != off+int64(n) || r.at >= r.end {
			if err := r.request(off+int64(n), max(r.told, off+int64(len(b))), time.Until(late)); err != nil {
				return n, err
			}
		}
		stop := time.AfterFunc(time.Until(late), r.cancel)
		k, err := r.body.Read(b[n:min(int64(len(b)), int64(n)+r.end-r.at)])
		stop.Stop()
		n, r.at = n+k, r.at+int64(k)
		if err != nil && r.at < r.end {
			r.drop()
			if !time.Now().Before(late) {
				return n, fmt.Errorf("s3: %s of %s: after %v: %w", r.key, r.s.uri, r.s.patience, err)
			}
			time.Sleep(again)
		}
	}
	return n, nil
}

// request asks for the bytes from from to to.
func (r *reader) request(from, to int64, patience time.Duration) error {
	r.drop()
	return r.s.again(context.Background(), patience, func(try context.Context) error {
		ctx, cancel := context.WithCancel(context.WithoutCancel(try)) // the body is read when the try is over
		stop := context.AfterFunc(try, cancel)
		out, err := r.s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &r.s.bucket, Key: &r.key, Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, to-1))})
		stop()
		if code(err) == "InvalidRange" {
			err = errShort
		}
		var begin int64
		if err == nil {
			if _, e := fmt.Sscanf(aws.ToString(out.ContentRange), "bytes %d-", &begin); e != nil || begin != from {
				out.Body.Close()
				err = fmt.Errorf("%w: %s was asked for its bytes from %d, and %q came", errNotS3, r.key, from, aws.ToString(out.ContentRange))
			}
		}
		if err != nil {
			cancel()
			return err
		}
		r.body, r.at, r.end, r.cancel = out.Body, from, min(to, from+aws.ToInt64(out.ContentLength)), cancel
		if r.end <= from {
			return errors.Join(errShort, r.Close())
		}
		return nil
	})
}

// drop ends the request.
func (r *reader) drop() {
	if r.body != nil {
		r.cancel()
		_ = r.body.Close()
		r.body = nil
	}
}

// Close ends the reading.
func (r *reader) Close() error {
	if r.body != nil && r.at == r.end { // or the connection would be of no more use
		_, _ = io.Copy(io.Discard, io.LimitReader(r.body, 1))
	}
	r.drop()
	return nil
}
