package health

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/mqttlb/mqttlb/balancer"
)

// DefaultURL is the readiness of HiveMQ's health API (hivemq.md, 5.1).
const DefaultURL = "http://{host}:8889/api/v1/health/readiness"

// HTTPOptions configure an HTTP probe. The zero value asks for HiveMQ's readiness.
type HTTPOptions struct {
	// URL is what to GET, http or https, with placeholders {instance} {name} {host} {port} {label.KEY}, where
	// {port} is the port of MQTT; empty means DefaultURL. If its host is {host}, the connection goes to the
	// address that clients use, so that a name with several addresses cannot lead to another broker.
	URL string
	// Instance is what {instance} stands for: the name of this mqttlb.
	Instance string
	// DrainStatus are the statuses of a broker that works and wants to get rid of its clients. nil means 503
	// if the path ends in /load_rebalance/availability_check, which is how EMQX says that it is evacuated,
	// and none for all others: a HiveMQ with 503 does not take clients.
	DrainStatus []int
	// UnsettledStatus are the statuses of a broker that works and is not ready for clients yet; nil means none.
	UnsettledStatus []int
	// Dial is as in Dialing. TLS is for https; without it, the system's certificate authorities count. Without a
	// ServerName, that of the URL must be in the certificate.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	TLS  *tls.Config
}

// HTTP is a probe that passes when a GET is answered with a status from 200 to 299. It follows no
// redirect, which would ask somebody else, uses no proxy, and reads no body: the status says it all.
type HTTP struct {
	url              template
	dial             func(ctx context.Context, network, address string) (net.Conn, error)
	tls              *tls.Config
	drain, unsettled []int
}

const availabilityCheck = "/load_rebalance/availability_check"

// NewHTTP returns a probe. It fails when the URL is none, or has an unknown placeholder or a password.
func NewHTTP(o HTTPOptions) (*HTTP, error) {
	text := cmp.Or(o.URL, DefaultURL)
	t, err := parseTemplate(text, url.QueryEscape(o.Instance))
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", text, err)
	}
	var example strings.Builder
	for _, p := range t {
		if p.placeholder {
			p.text = "1" // may be a host, a port or a part of a path
		}
		example.WriteString(p.text)
	}
	u, err := url.Parse(example.String())
	switch {
	case err != nil:
		return nil, fmt.Errorf("url %q must be like %s: %w", text, DefaultURL, errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("url %q must be like %s", text, DefaultURL)
	case u.User != nil:
		return nil, fmt.Errorf("url %q: credentials in a URL end up in logs", u.Redacted())
	}
	p := &HTTP{url: t, dial: o.Dial, tls: o.TLS, drain: o.DrainStatus, unsettled: o.UnsettledStatus}
	if p.drain == nil && strings.HasSuffix(u.Path, availabilityCheck) {
		p.drain = []int{http.StatusServiceUnavailable}
	}
	if p.tls == nil {
		p.tls = new(tls.Config)
	}
	return p, nil
}

// Probe implements Prober.
func (p *HTTP) Probe(ctx context.Context, t Target) Result {
	request, d, address, err := p.request(ctx, &t.Backend)
	if err != nil {
		return Result{Err: err}
	}
	conn, err := d.open(ctx, address, request.URL.Hostname(), nil)
	if err != nil {
		return Result{Err: err}
	}
	defer conn.Close()
	status, err := exchange(conn, request)
	switch {
	case err != nil:
		return Result{Err: err}
	case slices.Contains(p.drain, status):
		return Result{Drain: true, Note: answered(status)}
	case slices.Contains(p.unsettled, status):
		return Result{Unsettled: true, Note: answered(status)}
	case status >= 200 && status <= 299:
		return Result{}
	case status >= 300 && status <= 399:
		return Result{Err: fmt.Errorf("%s; redirects are not followed, configure the final url", answered(status))}
	}
	return Result{Err: errors.New(answered(status))}
}

// request makes the request for a backend, and says where and how to connect.
func (p *HTTP) request(ctx context.Context, b *balancer.Backend) (*http.Request, *Dialing, string, error) {
	text, err := p.url.expand(b, escapeForURL)
	if err != nil {
		return nil, nil, "", fmt.Errorf("health URL: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, text, http.NoBody)
	if err != nil {
		return nil, nil, "", fmt.Errorf("health URL: %w", err)
	}
	request.Close = true
	request.Header.Set("User-Agent", "mqttlb-health")

	d := &Dialing{Dial: p.dial}
	port := "80"
	if request.URL.Scheme == "https" {
		port, d.TLS = "443", p.encryption
	}
	host := request.URL.Hostname()
	if name, err := valueOf("host", b); err == nil && name == host {
		host, _, err = net.SplitHostPort(b.Address)
		if err != nil {
			return nil, nil, "", fmt.Errorf("address of the backend: %w", err)
		}
	}
	return request, d, net.JoinHostPort(host, cmp.Or(request.URL.Port(), port)), nil
}

// encryption is Dialing.TLS.
func (p *HTTP) encryption(host string) *tls.Config {
	config := p.tls.Clone()
	config.ServerName = cmp.Or(config.ServerName, host)
	return config
}

// escapeForURL keeps a value from becoming more than a part of a host, or of a path.
func escapeForURL(name, value string) string {
	if name == "host" && strings.Contains(value, ":") { // IPv6, perhaps with a zone (RFC 6874)
		return "[" + strings.ReplaceAll(value, "%", "%25") + "]"
	}
	return strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
}

// maxHead bounds the head of a response, in bytes; maxInterim the responses before the final one.
const maxHead, maxInterim = 16 << 10, 5

// exchange sends a request and returns the status of the answer.
func exchange(conn net.Conn, request *http.Request) (int, error) {
	if err := request.Write(conn); err != nil {
		return 0, fmt.Errorf("send GET: %w", err)
	}
	r := bufio.NewReader(io.LimitReader(conn, maxHead))
	for range maxInterim {
		response, err := http.ReadResponse(r, request) //nolint:bodyclose // would read it; the connection is closed instead
		if err != nil {
			return 0, fmt.Errorf("no complete answer to GET: %.300w", err)
		}
		if response.StatusCode >= 200 {
			return response.StatusCode, nil
		}
	}
	return 0, errors.New("the answer to GET is a 1xx without end")
}

func answered(status int) string {
	return strings.TrimSpace(fmt.Sprintf("GET was answered with %d %s", status, http.StatusText(status)))
}
