package scrape

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/mqttlb/mqttlb/balancer"
)

// A template is a URL with placeholders, cut at its braces: text at even positions, the names of
// placeholders at odd ones.
type template []string

const (
	labelPrefix      = "label."
	placeholders     = "{host} {port} {name} {label.KEY}"
	maxURL           = 2048
	placeholderValue = "1" // fits wherever a placeholder may stand: host, port, path
)

// parseTemplate reads the url setting.
func parseTemplate(text string) (template, error) {
	if len(text) > maxURL {
		return nil, fmt.Errorf("is %d bytes long, the most is %d", len(text), maxURL)
	}
	var t template
	for rest := text; ; {
		before, after, opened := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return nil, fmt.Errorf("%q has a } without a { before it; the placeholders are %s", text, placeholders)
		}
		t = append(t, before)
		if !opened {
			break
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("%q has a { without a } after it; the placeholders are %s", text, placeholders)
		}
		key, isLabel := strings.CutPrefix(name, labelPrefix)
		if !slices.Contains([]string{"host", "port", "name"}, name) && (!isLabel || key == "") {
			return nil, fmt.Errorf("%q has the unknown placeholder {%s}; the placeholders are %s", text, name, placeholders)
		}
		t, rest = append(t, name), behind
	}
	_, err := t.check(t.fill(func(string) string { return placeholderValue }))
	return t, err
}

// fill puts values in.
func (t template) fill(value func(name string) string) string {
	var b strings.Builder
	for i, s := range t {
		if i%2 == 1 {
			s = value(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

func (t template) check(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		if reason, ok := errors.AsType[*url.Error](err); ok {
			err = reason.Err
		}
		return nil, fmt.Errorf("%q is no URL: %w", text, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is no URL of metrics; write one like http://{host}:9399/metrics", text)
	case u.User != nil:
		return nil, errors.New("must hold no password, it would end up in logs; name a password file or a token file instead")
	}
	return u, nil
}

// A location is where a backend's metrics are.
type location struct {
	url *url.URL
	// dial is the host:port to connect to. It differs from that of the URL where the host is the backend's:
	// a name with several addresses must not lead to another broker's figures.
	dial string
}

// expand returns where the metrics of a backend are.
func (t template) expand(b *balancer.Backend) (location, error) {
	ip, port, err := net.SplitHostPort(b.Address)
	if err != nil {
		return location{}, fmt.Errorf("address of the backend: %w", err)
	}
	host := b.Host
	if host == "" {
		host = ip
	}
	var missing error
	u, err := t.check(t.fill(func(name string) string {
		switch name {
		case "host":
			return escapeHost(host)
		case "port":
			return port
		case "name":
			return escape(b.Name)
		}
		key := strings.TrimPrefix(name, labelPrefix)
		value, ok := b.Labels[key]
		if !ok && missing == nil {
			missing = fmt.Errorf("the backend has no label %q, which the url needs for {%s}", key, name)
		}
		return escape(value)
	}))
	switch {
	case missing != nil:
		return location{}, missing
	case err != nil:
		return location{}, fmt.Errorf("url %w", err)
	}
	target := u.Hostname()
	if target == host {
		target = ip
	}
	p := u.Port()
	if p == "" {
		p = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return location{url: u, dial: net.JoinHostPort(target, p)}, nil
}

// escape keeps a value from becoming more than a part of a host or of a path.
func escape(value string) string { return strings.ReplaceAll(url.QueryEscape(value), "+", "%20") }

// escapeHost puts an IPv6 address into brackets, its zone escaped (RFC 6874).
func escapeHost(host string) string {
	if strings.Contains(host, ":") {
		return "[" + strings.ReplaceAll(host, "%", "%25") + "]"
	}
	return escape(host)
}
