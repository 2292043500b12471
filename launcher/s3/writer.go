package s3

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Writer writes a file: in one request if it is small, else in parts, each of which has a goroutine while it goes. Close waits for them.
type Writer struct {
	s    *Store
	key  string
	buf  []byte // of the part that is being filled
	size int64  // of parts that went

	upload *string // nil: there are no parts
	free   chan []byte
	going  sync.WaitGroup

	mu    sync.Mutex
	parts []types.CompletedPart
	err   error // of the first that went wrong; the rest is not tried
}

// Write is io.Writer's. b may be changed when it returns.
func (w *Writer) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if err := w.failed(nil); err != nil {
			return n, err
		}
		most := w.s.part << (len(w.parts) / 1000) // see Limits
		if len(w.buf) == most {
			if err := w.send(); err != nil {
				return n, w.failed(err)
			}
			continue
		}
		k := min(most-len(w.buf), len(b))
		w.buf = append(w.buf, b[:k]...)
		b, n = b[k:], n+k
	}
	return n, nil
}

// failed gives what went wrong first, which may be err.
func (w *Writer) failed(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return w.err
}

// send has the part that was filled go, once there is memory for the next.
func (w *Writer) send() error {
	if w.upload == nil {
		err := w.s.again(context.Background(), w.s.patience, func(ctx context.Context) error {
			out, err := w.s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &w.s.bucket, Key: &w.key})
			if err == nil {
				w.upload = out.UploadId
			}
			return err
		})
		if err != nil {
			return err
		}
		w.free = make(chan []byte, flying)
		for range flying - 1 {
			w.free <- nil
		}
	}
	b := w.buf
	w.mu.Lock()
	w.parts = append(w.parts, types.CompletedPart{PartNumber: aws.Int32(int32(len(w.parts) + 1))})
	number := len(w.parts)
	w.mu.Unlock()
	w.size += int64(len(b))
	w.going.Go(func() {
		var tag *string
		err := w.failed(nil)
		if err == nil {
			err = w.s.again(context.Background(), w.s.patience, func(ctx context.Context) error {
				out, err := w.s.client.UploadPart(ctx, &s3.UploadPartInput{
					Bucket: &w.s.bucket, Key: &w.key, UploadId: w.upload, PartNumber: aws.Int32(int32(number)), Body: bytes.NewReader(b), ContentLength: aws.Int64(int64(len(b))),
				})
				if err == nil {
					tag = out.ETag
				}
				return err
			})
		}
		_ = w.failed(err)
		w.mu.Lock()
		w.parts[number-1].ETag = tag
		w.mu.Unlock()
		w.free <- b[:0]
	})
	w.buf = <-w.free
	return nil
}

// Close returns once the file is there, or nothing of it.
func (w *Writer) Close() error {
	if w.upload == nil {
		if err := w.failed(nil); err != nil {
			return err
		}
		return w.s.again(context.Background(), w.s.patience, func(ctx context.Context) error {
			_, err := w.s.client.PutObject(ctx, &s3.PutObjectInput{Bucket: &w.s.bucket, Key: &w.key, Body: bytes.NewReader(w.buf), ContentLength: aws.Int64(int64(len(w.buf)))})
			return err
		})
	}
	err := w.failed(nil)
	if err == nil && len(w.buf) > 0 {
		err = w.send()
	}
	w.going.Wait()
	if err = w.failed(err); err == nil {
		err = w.complete()
	}
	if err != nil {
		_ = w.s.abort(w.key, w.upload) // else it goes with the folder
	}
	return err
}

// complete makes one file of the parts. That the upload is unknown is the answer to a second try, too, if that to the first was lost.
func (w *Writer) complete() error {
	tries := 0
	return w.s.again(context.Background(), w.s.patience, func(ctx context.Context) error {
		tries++
		_, err := w.s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &w.s.bucket, Key: &w.key, UploadId: w.upload, MultipartUpload: &types.CompletedMultipartUpload{Parts: slices.Clone(w.parts)},
		})
		if code(err) == "NoSuchUpload" && tries > 1 {
			head, e := w.s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &w.s.bucket, Key: &w.key})
			if e == nil && aws.ToInt64(head.ContentLength) == w.size {
				return nil
			}
			err = errors.Join(err, e)
		}
		return err
	})
}
