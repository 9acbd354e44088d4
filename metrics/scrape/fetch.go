package scrape

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"
)

const (
	maxHeader = 64 << 10 // of a response, bytes
	maxSecret = 16 << 10 // of a password or token, bytes
	userAgent = "mqttlb"
	// accepts is the text format only: brokers that can would answer in protocol buffers or OpenMetrics.
	accepts = "text/plain;version=0.0.4, text/plain;q=0.5, */*;q=0.1"
)

// newTransport returns a transport for one backend. It opens a connection for each scrape: four in a
// minute are nothing for a broker, and one that hangs half open cannot spoil the next scrape.
func newTransport(dial string, config *tls.Config) *http.Transport {
	var d net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return d.DialContext(ctx, network, dial)
		},
		TLSClientConfig:        config.Clone(),
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// A fetched is the outcome of one request.
type fetched struct {
	page  *page
	at    int64 // when the answer began: brokers gather all figures before that
	bytes int64
	err   error
}

// fetch scrapes one backend.
func (s *Scraper) fetch(ctx context.Context, l location, client http.RoundTripper) (f fetched) {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	f.at = s.options.Clock()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url.String(), http.NoBody)
	if err != nil {
		f.err = err
		return f
	}
	request.Header.Set("Accept", accepts)
	request.Header.Set("User-Agent", userAgent)
	if f.err = s.options.authorize(request.Header); f.err != nil {
		return f
	}
	response, err := client.RoundTrip(request)
	if err != nil {
		f.err = s.explain(ctx, err)
		return f
	}
	defer response.Body.Close()
	f.at = s.options.Clock()
	if f.err = refuse(response); f.err != nil {
		return f
	}
	body := &counted{r: http.MaxBytesReader(nil, response.Body, s.options.MaxBody)}
	f.page, err = readPage(body, s.plan.names, s.options.MaxSeries)
	f.bytes = body.n
	if err != nil {
		f.err = s.explain(ctx, err)
	}
	return f
}

// A counted reader counts bytes.
type counted struct {
	r io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// explain puts what an operator can do about it into an error.
func (s *Scraper) explain(ctx context.Context, err error) error {
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return fmt.Errorf("the page is larger than %d bytes; choose a url with fewer metrics", large.Limit)
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("no complete answer within %v: %.300w", s.options.Timeout, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the answer was cut off: %w", err)
	}
	return fmt.Errorf("%.300w", err)
}

// refuse is the error for an answer that is no page of metrics. It follows no redirect: that would send
// credentials to, and take figures from, somebody else.
func refuse(r *http.Response) error {
	status := strings.TrimSpace(fmt.Sprintf("answered %d %s", r.StatusCode, http.StatusText(r.StatusCode)))
	switch {
	case r.StatusCode == http.StatusUnauthorized, r.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%s; it wants other credentials", status)
	case r.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s; check the path of the url", status)
	case r.StatusCode >= 300 && r.StatusCode <= 399:
		return fmt.Errorf("%s to %.300q; redirects are not followed, configure the final url", status, where(r))
	case r.StatusCode != http.StatusOK:
		return errors.New(status)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return fmt.Errorf("answered in the encoding %.300q, which was not asked for", encoding)
	}
	kind := r.Header.Get("Content-Type")
	if media, _, _ := mime.ParseMediaType(kind); kind != "" && media != "text/plain" {
		return fmt.Errorf("answered %.300q instead of text/plain: this is no page of metrics in the Prometheus text format; check the url", kind)
	}
	return nil
}

// where is where a redirect points, without credentials.
func where(r *http.Response) string {
	u, err := r.Location()
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// authorize puts credentials in.
func (o *Options) authorize(h http.Header) error {
	switch {
	case o.BearerTokenFile != "":
		token, err := readSecret(o.BearerTokenFile)
		if err != nil {
			return fmt.Errorf("token file: %w", err)
		}
		h.Set("Authorization", "Bearer "+token)
	case o.Username != "":
		password, err := readSecret(o.PasswordFile)
		if err != nil {
			return fmt.Errorf("password file: %w", err)
		}
		h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(o.Username+":"+password)))
	}
	return nil
}

// readSecret returns the line in a file.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	text := strings.TrimRight(string(b), "\r\n")
	switch {
	case err != nil:
		return "", err
	case text == "":
		return "", fmt.Errorf("%s is empty", path)
	case len(b) > maxSecret:
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxSecret)
	case strings.ContainsFunc(text, unicode.IsControl):
		return "", fmt.Errorf("%s must hold one line", path)
	}
	return text, nil
}

// pause is the time to the next scrape: the interval, give or take a twentieth, so that backends and
// instances of mqttlb do not fall into step.
func (s *Scraper) pause() time.Duration {
	spread := s.options.Interval / 20
	return s.options.Interval - spread + s.rand(2*spread+1)
}
