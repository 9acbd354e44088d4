package health_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
)

// reply is a script that reads the head of a request and replies with text.
func reply(format string, args ...any) func(*fake, net.Conn) {
	return func(_ *fake, c net.Conn) {
		if readHead(c) != "" {
			fmt.Fprintf(c, format, args...)
			io.Copy(io.Discard, c)
		}
	}
}

func readHead(c net.Conn) string {
	var head strings.Builder
	for b := make([]byte, 1); !strings.HasSuffix(head.String(), "\r\n\r\n"); head.Write(b) {
		if _, err := c.Read(b); err != nil {
			return ""
		}
	}
	return head.String()
}

func httpProbe(t *testing.T, o health.HTTPOptions) *health.HTTP {
	t.Helper()
	p, err := health.NewHTTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHTTPStatuses(t *testing.T) {
	const emqx = "http://{host}:{port}/api/v5/load_rebalance/availability_check"
	const hivemq = "http://{host}:{port}/api/v1/health/readiness"
	status := func(line string) string {
		return "HTTP/1.1 " + line + "\r\nContent-Length: 2\r\n\r\n{}"
	}
	for _, test := range []struct {
		name    string
		options health.HTTPOptions
		reply   string
		want    health.Result
		err     string
	}{
		{"HiveMQ is ready", health.HTTPOptions{URL: hivemq}, status("200 OK"), health.Result{}, ""},
		{"HiveMQ is not", health.HTTPOptions{URL: hivemq}, status("503 Service Unavailable"), health.Result{}, "503 Service Unavailable"},
		{"EMQX is available", health.HTTPOptions{URL: emqx}, status("200 OK"), health.Result{}, ""},
		{"EMQX is evacuated", health.HTTPOptions{URL: emqx}, status("503 Service Unavailable"), health.Result{Drain: true, Note: "GET was answered with 503 Service Unavailable"}, ""},
		{"EMQX, where that is not wanted", health.HTTPOptions{URL: emqx, DrainStatus: []int{}}, status("503 Busy"), health.Result{}, "503"},
		{"own statuses: drain", health.HTTPOptions{URL: hivemq, DrainStatus: []int{429}}, status("429 No"), health.Result{Drain: true, Note: "GET was answered with 429 Too Many Requests"}, ""},
		{"own statuses: unsettled", health.HTTPOptions{URL: hivemq, UnsettledStatus: []int{206}}, status("206 Some"), health.Result{Unsettled: true, Note: "GET was answered with 206 Partial Content"}, ""},
		{"no content", health.HTTPOptions{URL: hivemq}, "HTTP/1.1 204 No Content\r\n\r\n", health.Result{}, ""},
		{"HTTP/1.0", health.HTTPOptions{URL: hivemq}, "HTTP/1.0 200 OK\r\n\r\n", health.Result{}, ""},
		{"redirect", health.HTTPOptions{URL: hivemq}, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", health.Result{}, "redirects are not followed"},
		{"not found", health.HTTPOptions{URL: hivemq}, status("404 Not Found"), health.Result{}, "404 Not Found"},
		{"a status nobody knows", health.HTTPOptions{URL: hivemq}, status("599 Oops"), health.Result{}, "answered with 599"},
		{"first 100, then 200", health.HTTPOptions{URL: hivemq}, "HTTP/1.1 100 Continue\r\n\r\n" + status("200 OK"), health.Result{}, ""},
		{"100 without end", health.HTTPOptions{URL: hivemq}, strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), health.Result{}, "1xx without end"},
		{"a body that never comes", health.HTTPOptions{URL: hivemq}, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", health.Result{}, ""},
		{"garbage", health.HTTPOptions{URL: hivemq}, "\x20\x02\x00\x01 what is this?\r\n\r\n", health.Result{}, "no complete answer to GET"},
		{"a head without end", health.HTTPOptions{URL: hivemq}, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), health.Result{}, "unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, reply("%s", test.reply))
			got := probe(t, httpProbe(t, test.options), f.backend(), 0, patience)
			if got.Drain != test.want.Drain || got.Unsettled != test.want.Unsettled || got.Note != test.want.Note {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			switch {
			case test.err == "" && got.Err != nil:
				t.Errorf("got error %v, want none", got.Err)
			case test.err != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), test.err)):
				t.Errorf("got error %v, want one about %q", got.Err, test.err)
			case got.Err != nil && len(got.Err.Error()) > 500:
				t.Errorf("the error has %d bytes: a stranger's answer must not fill the log", len(got.Err.Error()))
			}
		})
	}
}

func TestHTTPTrouble(t *testing.T) {
	for name, script := range map[string]func(*fake, net.Conn){
		"silent":      func(_ *fake, c net.Conn) { io.Copy(io.Discard, c) },
		"half a head": reply("HTTP/1.1 200 OK\r\nX: "),
		"RST":         func(_ *fake, c net.Conn) { readHead(c); reset(c) },
		"end":         func(_ *fake, c net.Conn) { readHead(c) },
		"drip": func(_ *fake, c net.Conn) {
			readHead(c)
			for {
				if _, err := c.Write([]byte("HTTP/1.1 2"[:1])); err != nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serve(t, script)
			if r := probe(t, httpProbe(t, health.HTTPOptions{URL: "http://{host}:{port}/"}), f.backend(), 0, brief); r.Err == nil {
				t.Errorf("got %+v, want an error", r)
			}
		})
	}
}

// Where a request goes, and what it says.
func TestHTTPRequests(t *testing.T) {
	for _, test := range []struct {
		name            string
		url             string
		backend         balancer.Backend
		address, target string
		host            string
	}{
		{"default", "", balancer.Backend{Address: "10.1.2.3:1883"}, "10.1.2.3:8889", "/api/v1/health/readiness", "10.1.2.3:8889"},
		{
			"the name of a host leads to the backend's address", "http://{host}/x",
			balancer.Backend{Address: "10.1.2.3:1883", Host: "broker.example"},
			"10.1.2.3:80", "/x", "broker.example",
		},
		{"another host is another host", "http://health.example:81/{name}", balancer.Backend{Name: "n 1/2", Address: "10.1.2.3:1883"}, "health.example:81", "/n%201%2F2", "health.example:81"},
		{"IPv6", "http://{host}:{port}/", balancer.Backend{Address: "[fe80::1]:1883"}, "[fe80::1]:1883", "/", "[fe80::1]:1883"},
		{"labels", "http://{host}:{label.port}/{label.path}?q={instance}", balancer.Backend{Address: "10.1.2.3:1", Labels: map[string]string{"port": "99", "path": "?@#"}}, "10.1.2.3:99", "/%3F%40%23?q=lb+1", "10.1.2.3:99"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var address, head string
			done := make(chan struct{})
			dial := func(_ context.Context, _, to string) (net.Conn, error) {
				address = to
				ours, theirs := net.Pipe()
				go func() {
					defer close(done)
					head = readHead(theirs)
					io.WriteString(theirs, "HTTP/1.1 200 OK\r\n\r\n")
					theirs.Close()
				}()
				return ours, nil
			}
			p := httpProbe(t, health.HTTPOptions{URL: test.url, Dial: dial, Instance: "lb 1"})
			if r := probe(t, p, test.backend, 0, patience); r.Err != nil {
				t.Fatal(r.Err)
			}
			<-done
			lines := strings.Split(head, "\r\n")
			if address != test.address || lines[0] != "GET "+test.target+" HTTP/1.1" || !slices.Contains(lines, "Host: "+test.host) {
				t.Errorf("got %q at %s, want %s of %s at %s", lines, address, test.target, test.host, test.address)
			}
			if !slices.Contains(lines, "Connection: close") || !slices.Contains(lines, "User-Agent: mqttlb-health") {
				t.Errorf("got %q, want a request that ends the connection and says who asks", lines)
			}
		})
	}
}

func TestHTTPOverTLS(t *testing.T) {
	config, pool := certificate(t, "broker.example")
	f := serve(t, func(_ *fake, c net.Conn) {
		secured := tls.Server(c, config)
		if readHead(secured) != "" {
			io.WriteString(secured, "HTTP/1.1 200 OK\r\n\r\n")
			secured.Close()
		}
	})
	b := f.backend()
	p := httpProbe(t, health.HTTPOptions{URL: "https://{host}:{port}/", TLS: &tls.Config{RootCAs: pool}})
	b.Host = "broker.example"
	if r := probe(t, p, b, 0, patience); r.Err != nil {
		t.Errorf("got %v, want no error", r.Err)
	}
	b.Host = "other.example"
	if r := probe(t, p, b, 0, patience); r.Err == nil || !strings.Contains(r.Err.Error(), "TLS handshake") {
		t.Errorf("with another name: got %v, want an error about TLS", r.Err)
	}
	b.Host = "broker.example"
	p = httpProbe(t, health.HTTPOptions{URL: "https://{host}:{port}/"})
	if r := probe(t, p, b, 0, patience); r.Err == nil || !strings.Contains(r.Err.Error(), "TLS handshake") {
		t.Errorf("with an unknown authority: got %v, want an error about TLS", r.Err)
	}
}

func TestHTTPRefusesBadOptions(t *testing.T) {
	for url, want := range map[string]string{
		"{host}:8889/x":           "must be like",
		"/x":                      "must be like",
		"ftp://{host}/":           "must be like",
		"http:///x":               "must be like",
		"http://{host}:x/":        "invalid port",
		"http://u:secret@{host}/": "credentials",
		"http://{hots}/":          "unknown placeholder {hots}",
	} {
		_, err := health.NewHTTP(health.HTTPOptions{URL: url})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("url %q: got %v, want an error about %q", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("url %q: the password is in the error: %v", url, err)
		}
	}
	for _, b := range []balancer.Backend{{Address: "10.1.2.3:1883"}, {Address: "10.1.2.3:1883", Labels: map[string]string{"at": "h@evil.example"}}} {
		p := httpProbe(t, health.HTTPOptions{URL: "http://{label.at}/"})
		if r := probe(t, p, b, 0, patience); r.Err == nil || !strings.Contains(r.Err.Error(), "health URL") {
			t.Errorf("labels %v: got %v, want an error about the URL", b.Labels, r.Err)
		}
	}
}

// The environment's proxy is not for asking brokers.
func TestHTTPUsesNoProxy(t *testing.T) {
	proxied := serve(t, reply("HTTP/1.1 %d\r\n\r\n", http.StatusTeapot))
	t.Setenv("HTTP_PROXY", "http://"+proxied.listener.Addr().String())
	f := serve(t, reply("HTTP/1.1 200 OK\r\n\r\n"))
	if r := probe(t, httpProbe(t, health.HTTPOptions{URL: "http://{host}:{port}/"}), f.backend(), 0, patience); r.Err != nil || proxied.accepted() != 0 {
		t.Errorf("got %+v with %d requests to the proxy, want none", r, proxied.accepted())
	}
}
