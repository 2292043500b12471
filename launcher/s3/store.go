package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"github.com/maniple-hpc/maniple/rt/bootdoc"
)

const (
	patience = time.Minute      // so long is asked again,
	briefly  = 10 * time.Second // and for what need not be
	again    = 100 * time.Millisecond
	rarely   = 2 * time.Second
	silence  = 20 * time.Second // of a connection
	dialing  = 10 * time.Second
	partSize = 8 << 20
	flying   = 4    // parts at a time
	removed  = 1000 // names in one request
	removers = 8    // such requests at a time

	expiryWindow = 5 * time.Minute // so long before credentials of a role end, others are had
)

// defaultRegion is what stores that have no regions are told.
const defaultRegion = "us-east-1"

// Store is a bucket, and what the names of its files begin with.
type Store struct {
	uri, bucket, prefix string
	endpoint            string // for people; "": Amazon's own
	client              *s3.Client
	trusted             atomic.Bool   // credentials were found once: if they are not the next time, that may be over soon
	patience            time.Duration // as above; tests have less
	silence             time.Duration
	part                int
}

// OpenSpill gives the store of a URI, s3://bucket or s3://bucket/prefix. It reads the environment and the files of the AWS tools, and connects with the
// first call.
func OpenSpill(uri string) (*Store, error) {
	rest, found := strings.CutPrefix(strings.TrimRight(uri, "/"), bootdoc.SpillS3)
	bucket, prefix, _ := strings.Cut(rest, "/")
	if !found || !bootdoc.SpillDirectory(uri) {
		return nil, errors.New("s3: that names no bucket; one looks like s3://bucket/prefix, without credentials")
	}
	cfg, err := config.LoadDefaultConfig(context.Background(), config.WithLogger(logging.Nop{}), config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow = expiryWindow
	}))
	if err != nil {
		return nil, fmt.Errorf("s3: %s: the settings of the AWS tools (environment, ~/.aws): %w", uri, err)
	}
	s := &Store{uri: bootdoc.SpillS3 + rest, bucket: bucket, prefix: prefix, patience: patience, silence: silence, part: partSize}
	s.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		if o.BaseEndpoint != nil {
			s.endpoint = *o.BaseEndpoint
		}
		if u, err := url.Parse(s.endpoint); err == nil && s.endpoint != "" {
			s.endpoint = u.Redacted()
			host := u.Hostname()
			o.UsePathStyle = host != "amazonaws.com" && !strings.HasSuffix(host, ".amazonaws.com") // others have no name for each bucket
			if o.Region == "" {
				o.Region = defaultRegion
			}
		}
		o.Retryer = aws.NopRetryer{} // see Store.again
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // files have their own
		c, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
		if !ok {
			c = awshttp.NewBuildableClient()
		}
		o.HTTPClient = c.WithTransportOptions(func(t *http.Transport) { t.DialContext = s.dial })
	})
	if s.client.Options().Region == "" {
		return nil, fmt.Errorf("s3: %s: no region is known; set AWS_REGION, or AWS_ENDPOINT_URL for a store that is not Amazon's", uri)
	}
	return s, nil
}

// dial gives connections that are cut when nothing goes by them, in either direction, for a while.
func (s *Store) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: min(dialing, s.silence)}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &heard{c, s.silence}, nil
}

// heard is such a connection. One side is read while the other is written: either shows that somebody is there.
type heard struct {
	net.Conn
	silence time.Duration
}

// Read is net.Conn's.
func (c *heard) Read(b []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(c.silence)) // a closed one says so below
	return c.Conn.Read(b)
}

// Write is net.Conn's.
func (c *heard) Write(b []byte) (int, error) {
	_ = c.SetDeadline(time.Now().Add(c.silence))
	return c.Conn.Write(b)
}

func (s *Store) String() string { return s.uri }

func (s *Store) key(name string) string { return strings.TrimPrefix(path.Join(s.prefix, name), "/") }

// again does something until the server has an answer, which may be no; one try, and all of them, end with ctx.
func (s *Store) again(ctx context.Context, patience time.Duration, do func(context.Context) error) error {
	late := time.Now().Add(patience)
	ctx, cancel := context.WithDeadline(ctx, late)
	defer cancel()
	var last error
	for wait := again; ; wait = min(2*wait, rarely) {
		_, err := s.client.Options().Credentials.Retrieve(ctx)
		if err != nil {
			err = &credentialsError{err}
		} else {
			s.trusted.Store(true)
			err = do(ctx)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // else the deadline's
		}
		if !s.retries(err) || time.Until(late) < wait || ctx.Err() != nil {
			return s.explain(last)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return s.explain(last)
		}
	}
}

// Create is agent.SpillFS's. The file is there once it is closed.
func (s *Store) Create(name string) (io.WriteCloser, error) {
	return &Writer{s: s, key: s.key(name)}, nil
}

// Remove is agent.SpillFS's.
func (s *Store) Remove(name string) error {
	return s.again(context.Background(), min(briefly, s.patience), func(ctx context.Context) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.bucket, Key: aws.String(s.key(name))})
		return err
	})
}

// RemoveAll is agent.SpillFS's.
func (s *Store) RemoveAll(folder string) error {
	if s.key(folder) == "" {
		return fmt.Errorf("s3: %s: all of a bucket is never removed", s.uri)
	}
	var (
		wait  sync.WaitGroup
		turns = make(chan struct{}, removers)
		mu    sync.Mutex // of err
		err   error
	)
	fails := func(why error) {
		mu.Lock()
		defer mu.Unlock()
		err = errors.Join(err, why)
	}
	fails(s.list(folder, "", "", func(page *s3.ListObjectsV2Output) bool { // what was removed does not change what comes behind it
		var names []types.ObjectIdentifier
		for _, o := range page.Contents {
			names = append(names, types.ObjectIdentifier{Key: o.Key})
		}
		for some := range slices.Chunk(names, removed) {
			turns <- struct{}{}
			wait.Go(func() {
				defer func() { <-turns }()
				fails(s.removeAll(some))
			})
		}
		mu.Lock()
		defer mu.Unlock()
		return err == nil
	}))
	wait.Wait()
	return errors.Join(err, s.abortAll(folder))
}

// removeAll removes some files by one request.
func (s *Store) removeAll(names []types.ObjectIdentifier) error {
	return s.again(context.Background(), min(briefly, s.patience), func(ctx context.Context) error {
		out, err := s.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &s.bucket, Delete: &types.Delete{Objects: names, Quiet: aws.Bool(true)}})
		if err == nil && len(out.Errors) > 0 {
			x := out.Errors[0]
			err = fmt.Errorf("%s: %s", aws.ToString(x.Key), aws.ToString(x.Message))
		}
		return err
	})
}

// abortAll removes the parts of files in a folder that were never whole: their processes died.
func (s *Store) abortAll(folder string) error {
	in := &s3.ListMultipartUploadsInput{Bucket: &s.bucket, Prefix: aws.String(s.key(folder) + "/")}
	for {
		var page *s3.ListMultipartUploadsOutput
		err := s.again(context.Background(), min(briefly, s.patience), func(ctx context.Context) (err error) {
			page, err = s.client.ListMultipartUploads(ctx, in)
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range page.Uploads {
			err = errors.Join(err, s.abort(aws.ToString(u.Key), u.UploadId))
		}
		if err != nil || !aws.ToBool(page.IsTruncated) {
			return err
		}
		in.KeyMarker, in.UploadIdMarker = page.NextKeyMarker, page.NextUploadIdMarker
	}
}

func (s *Store) abort(key string, upload *string) error {
	return s.again(context.Background(), min(briefly, s.patience), func(ctx context.Context) error {
		_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.bucket, Key: &key, UploadId: upload})
		if code(err) == "NoSuchUpload" {
			return nil
		}
		return err
	})
}

// List is agent.SpillFS's.
func (s *Store) List(folder, begin string, most int) (names []string, err error) {
	under := s.key(folder)
	if under != "" {
		under += "/"
	}
	err = s.list(folder, begin, "/", func(page *s3.ListObjectsV2Output) bool {
		for _, o := range page.Contents {
			names = append(names, strings.TrimPrefix(aws.ToString(o.Key), under))
		}
		for _, p := range page.CommonPrefixes {
			names = append(names, strings.TrimSuffix(strings.TrimPrefix(aws.ToString(p.Prefix), under), "/"))
		}
		return most == 0 || len(names) < most
	})
	return names, err
}

// list gives page after page of what is in a folder and begins so, down to the next delimiter, while each wants more.
func (s *Store) list(folder, begin, delimiter string, each func(*s3.ListObjectsV2Output) bool) error {
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket}
	if key := s.key(folder); key != "" {
		begin = key + "/" + begin
	}
	if begin != "" {
		in.Prefix = &begin
	}
	if delimiter != "" {
		in.Delimiter = &delimiter
	}
	for {
		var page *s3.ListObjectsV2Output
		err := s.again(context.Background(), min(briefly, s.patience), func(ctx context.Context) (err error) {
			page, err = s.client.ListObjectsV2(ctx, in)
			return err
		})
		if err != nil || !each(page) {
			return err
		}
		if in.ContinuationToken = page.NextContinuationToken; !aws.ToBool(page.IsTruncated) || in.ContinuationToken == nil {
			return nil
		}
	}
}

// Space is agent.SpillFS's: a bucket has no end that can be asked for.
func (s *Store) Space() (free, all int64, err error) {
	return math.MaxInt64 / 2, math.MaxInt64 / 2, nil
}
