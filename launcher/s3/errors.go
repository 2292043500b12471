package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"golang.org/x/sys/unix"

	"github.com/maniple-hpc/maniple/rt/agent"
)

// errNotS3: what answers is something else.
var errNotS3 = errors.New("that is not how S3 answers")

// errShort: the file has less.
var errShort = fmt.Errorf("it ends before what was asked for: %w", io.ErrUnexpectedEOF)

// credentialsError: there are none.
type credentialsError struct{ error }

// Unwrap gives what it is.
func (e *credentialsError) Unwrap() error { return e.error }

// code is what the server calls an error; "": it is not the server's.
func code(err error) string {
	var e smithy.APIError
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return ""
}

// answer is the server's status, and what it says of its region; 0: nothing was answered.
func answer(err error) (status int, region string) {
	var e *awshttp.ResponseError
	if errors.As(err, &e) && e.Response != nil {
		return e.HTTPStatusCode(), e.Response.Header.Get("X-Amz-Bucket-Region")
	}
	return 0, ""
}

var retryable = retry.IsErrorRetryables(retry.DefaultRetryables)

// retries tells whether the same request may have another answer soon.
func (s *Store) retries(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	status, _ := answer(err)
	switch {
	case errors.As(err, new(*credentialsError)):
		return s.trusted.Load()
	case code(err) == "ExpiredToken": // those of a role are had anew
		return s.trusted.Load()
	case errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &cert), errors.Is(err, errShort), errors.Is(err, errNotS3), full(err):
		return false
	case status < http.StatusMultipleChoices && code(err) == "": // it broke off
		return true
	}
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented || retryable.IsErrorRetryable(err).Bool()
}

// full tells whether the server has no room.
func full(err error) bool {
	switch code(err) {
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "StorageFull", "InsufficientCapacity":
		return true
	}
	status, _ := answer(err)
	return status == http.StatusInsufficientStorage
}

// explain says of an error what it is, and what to do.
func (s *Store) explain(err error) error {
	status, region := answer(err)
	at := s.endpoint
	if at == "" {
		at = "Amazon, region " + s.client.Options().Region
	}
	what, is := "", error(nil)
	var unsure *credentialsError
	switch code := code(err); {
	case errors.As(err, &unsure):
		return fmt.Errorf("s3: %s: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, where the cluster is started: %w", s.uri, unsure.error)
	case full(err):
		what, is = "the store has no room left, or no more quota", unix.EDQUOT
	case code == "NoSuchBucket":
		what, is = fmt.Sprintf("there is no bucket %q there: make it, or name another", s.bucket), os.ErrNotExist
	case code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || code == "IllegalLocationConstraintException" || status == http.StatusMovedPermanently:
		if what = "the bucket is in another region: set AWS_REGION to it"; region != "" {
			what = "the bucket is in another region: set AWS_REGION=" + region
		}
	case code == "RequestTimeTooSkewed":
		what = "this node's clock is not the server's: set it right"
	case code == "InvalidAccessKeyId" || code == "SignatureDoesNotMatch" || code == "InvalidToken" || code == "ExpiredToken":
		what, is = "it refuses the credentials: see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE", os.ErrPermission
	case status == http.StatusForbidden:
		what, is = "these credentials may not do that: spilling needs to list the bucket, and to read, write and delete in it", os.ErrPermission
	case status == http.StatusNotFound:
		is = os.ErrNotExist
	case status == 0 && errors.Is(err, context.DeadlineExceeded):
		what = fmt.Sprintf("it did not answer in %v", s.patience)
	}
	said := said(err)
	switch {
	case what != "":
		said = what + " (" + said + ")"
	case status != 0:
		said = fmt.Sprintf("it answers %d: %s", status, said)
	}
	if is != nil {
		return fmt.Errorf("s3: %s at %s: %s: %w", s.uri, at, said, is)
	}
	answered := status >= http.StatusMultipleChoices && status < http.StatusInternalServerError && !retryable.IsErrorRetryable(err).Bool()
	return &storeError{fmt.Sprintf("s3: %s at %s: %s", s.uri, at, said), err, answered}
}

// storeError has a text of its own.
type storeError struct {
	text     string
	err      error
	answered bool // and would be so again
}

// Is makes an answer agent.ErrSpillRefused.
func (e *storeError) Is(target error) bool { return e.answered && target == agent.ErrSpillRefused }

// Error is error's.
func (e *storeError) Error() string { return e.text }

// Unwrap gives what it is.
func (e *storeError) Unwrap() error { return e.err }

// said is an error without what the library says of its own requests and tries.
func said(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		if m := api.ErrorMessage(); m != "" {
			return api.ErrorCode() + ": " + m
		}
		return api.ErrorCode()
	}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		var conn net.Error
		if errors.As(op.Err, &conn) {
			return fmt.Sprintf("%s: %v", op.Operation(), conn)
		}
		return fmt.Sprintf("%s: %v", op.Operation(), op.Err)
	}
	return err.Error()
}
