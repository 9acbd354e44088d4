package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// pageSize is how many objects are listed at a time: with keys of 1 KiB, they fit into maxBody.
	pageSize = 250
	// maxPages bounds the requests of one listing; a server may go on for ever with empty pages.
	maxPages = 4 * (maxObjects/pageSize + 1)
	// maxBody bounds the body of a response, maxHeader its header, in bytes (protocol.md, 8).
	maxBody   = 1 << 20
	maxHeader = 64 << 10
	// maxSecret bounds a file with a part of the credentials, in bytes; session tokens may have 4 KiB.
	maxSecret = 16 << 10
)

// get reads one object.
func (s *S3) get(ctx context.Context, o *minio.ObjectInfo) content {
	c := content{cached: cached{etag: o.ETag}}
	if o.Size > maxNode {
		c.err = fmt.Errorf("%d bytes are too many for the description of a node", o.Size)
		return c
	}
	body, _, _, err := s.client.GetObject(ctx, s.Bucket, o.Key, minio.GetObjectOptions{})
	if err != nil {
		c.failed = err
		return c
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxNode+1))
	switch {
	case err != nil:
		c.failed = err
	case len(text) > maxNode:
		c.err = fmt.Errorf("more than %d bytes are too many for the description of a node", maxNode)
	default:
		c.node, c.err = parseNode(text)
	}
	return c
}

// isGone tells that there is no such object.
func isGone(err error) bool { return minio.ToErrorResponse(err).Code == minio.NoSuchKey }

// explainS3 adds what to do about an answer of the server that every beginner sees.
func explainS3(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", err)
	}
	var advice string
	switch minio.ToErrorResponse(err).Code {
	case minio.AccessDenied:
		advice = "the credentials need s3:ListBucket for the bucket and s3:GetObject for what is under the prefix"
	case minio.NoSuchBucket:
		advice = "check bucket, endpoint and region"
	case "PermanentRedirect", "AuthorizationHeaderMalformed", "TemporaryRedirect":
		advice = "check the region"
	case "RequestTimeTooSkewed":
		advice = "set the clock of this machine"
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		advice = "check the credentials"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, advice)
}

// An endpoint is a server that speaks S3.
type endpoint struct {
	host   string // with or without a port
	secure bool
}

func parseEndpoint(text string) (endpoint, error) {
	if text == "" {
		return endpoint{host: "s3.amazonaws.com", secure: true}, nil
	}
	if _, err := netip.ParseAddr(text); err == nil && strings.Contains(text, ":") {
		text = "[" + text + "]"
	}
	address := text
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return endpoint{}, fmt.Errorf("the endpoint of S3 must be host, host:port, or a URL without a path such as http://minio.example:9000, got %q", text)
	}
	return endpoint{host: u.Host, secure: u.Scheme == "https"}, nil
}

// newTransport returns a transport of its own, so that its connections can be closed at the end.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		MaxIdleConnsPerHost:    maxGets,
		IdleConnTimeout:        2 * defaultS3Interval,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // a small body must not become a large one
		ForceAttemptHTTP2:      true,
	}
}

// A guard bounds what a server can make the client do.
type guard struct {
	next  http.RoundTripper
	pages atomic.Int32
}

// refill begins a new refresh.
func (g *guard) refill() { g.pages.Store(0) }

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Query().Has("list-type") && g.pages.Add(1) > maxPages {
		return nil, fmt.Errorf("the listing has more than %d pages", maxPages)
	}
	response, err := g.next.RoundTrip(r)
	if err == nil {
		response.Body = &boundedBody{ReadCloser: response.Body, left: maxBody}
	}
	return response, err
}

// A boundedBody fails when it is longer than it may be.
type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, fmt.Errorf("the response has more than %d bytes", maxBody)
	}
	// One byte more than allowed tells a body that is too long from one that is exactly as long.
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	b.left -= n
	return n, err
}

// readCredentials reads the parts of the credentials from files.
func readCredentials(accessKey, secretKey, token string) (credentials.Value, error) {
	var parts [3]string
	for i, path := range []string{accessKey, secretKey, token} {
		if path == "" {
			continue
		}
		text, err := readFile(path, maxSecret)
		if err != nil {
			return credentials.Value{}, err
		}
		if parts[i] = strings.TrimSpace(string(text)); parts[i] == "" {
			return credentials.Value{}, fmt.Errorf("%s is empty", path)
		}
	}
	return credentials.Value{AccessKeyID: parts[0], SecretAccessKey: parts[1], SessionToken: parts[2]}, nil
}

// A credentialChain looks for credentials where the tools of AWS do. What has no end is looked up each time,
// the rest shortly before it ends.
type credentialChain struct {
	client *http.Client
	places []credentials.Provider
	// last is where credentials with an end were found, and value what they are.
	last  credentials.Provider
	value credentials.Value
}

func newCredentialChain(client *http.Client) *credentialChain {
	return &credentialChain{client: client, places: []credentials.Provider{
		&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: client},
	}}
}

func (c *credentialChain) get(ctx context.Context) (credentials.Value, error) {
	if c.last != nil && !c.last.IsExpired() {
		return c.value, nil
	}
	c.last = nil
	var why error
	for _, place := range c.places {
		value, err := place.RetrieveWithCredContext(&credentials.CredContext{Client: c.client, Context: ctx})
		if err != nil || value.AccessKeyID == "" || value.SecretAccessKey == "" {
			why = err
			continue
		}
		if !value.Expiration.IsZero() {
			c.last, c.value = place, value
		}
		return value, nil
	}
	if err := ctx.Err(); err != nil {
		return credentials.Value{}, err
	}
	return credentials.Value{}, fmt.Errorf("none in the environment, the AWS files, the container or the instance; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name files with the keys (the last place said: %w)", why)
}
