package scrape

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// scraperFor returns a scraper for the metric m, and its target for a backend whose metrics are at address.
func scraperFor(t *testing.T, address string, change func(*Options)) (*Scraper, *target) {
	t.Helper()
	o := Options{
		URL: "http://{host}:{port}/metrics", Figures: []FigureOptions{{Metric: "m"}}, Timeout: 5 * time.Second,
		Clock: func() int64 { return 1 }, OnReading: func(Reading) {},
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	target := s.newTarget(&balancer.Backend{Name: "n", Address: address, Host: "broker.example"})
	if target.invalid != nil {
		t.Fatal(target.invalid)
	}
	return s, target
}

// serve starts a server for a test.
func serve(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

const page1 = "# TYPE m gauge\nm 0.5\n"

func TestFetch(t *testing.T) {
	t.Parallel()
	quick := func(o *Options) { o.Timeout = 100 * time.Millisecond }
	small := func(o *Options) { o.MaxBody = 10_000 }
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		options func(*Options)
		err     string // a part of it; none if empty
	}{
		{"fine", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/metrics" || !strings.HasPrefix(r.Host, "broker.example:") || r.Method != http.MethodGet ||
				!strings.HasPrefix(r.Header.Get("Accept"), "text/plain;version=0.0.4") {
				t.Errorf("got request %s %s %s %v", r.Method, r.Host, r.URL, r.Header)
			}
			w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
			io.WriteString(w, page1)
		}, nil, ""},
		{"no content type", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, page1)
		}, nil, ""},
		{"encoding identity", func(w http.ResponseWriter, _ *http.Request) { // RabbitMQ says so
			w.Header().Set("Content-Encoding", "identity")
			io.WriteString(w, page1)
		}, nil, ""},
		{"chunked", func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range page1 {
				io.WriteString(w, string(c))
				w.(http.Flusher).Flush()
			}
		}, nil, ""},
		{"compressed", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("got Accept-Encoding %q", r.Header.Get("Accept-Encoding"))
			}
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, page1)
			z.Close()
		}, nil, ""},

		{"not found", http.NotFound, nil, "answered 404 Not Found; check the path of the url"},
		{"unauthorized", status(401), nil, "answered 401 Unauthorized; it wants other credentials"},
		{"forbidden", status(403), nil, "answered 403 Forbidden; it wants other credentials"},
		{"broken", status(500), nil, "answered 500 Internal Server Error"},
		{"no content", status(204), nil, "answered 204 No Content"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://user:secret@elsewhere/x?token=1", http.StatusFound)
		}, nil, `answered 302 Found to "http://elsewhere/x"; redirects are not followed, configure the final url`},
		{"a web page", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<!DOCTYPE html><html>m 0.5\n")
		}, nil, `answered "text/html; charset=utf-8" instead of text/plain: this is no page of metrics in the Prometheus text format; check the url`},
		{"OpenMetrics", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0")
			io.WriteString(w, page1)
		}, nil, `answered "application/openmetrics-text; version=1.0.0" instead of text/plain`},
		{"an encoding of its own", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "br")
			io.WriteString(w, page1)
		}, nil, `answered in the encoding "br", which was not asked for`},

		{"empty", func(http.ResponseWriter, *http.Request) {}, nil, "the metric m is not among the 0 samples of the page"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, page1)
		}, nil, "the answer was cut off: after line 2: unexpected EOF"},
		{"chunks cut off", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15\r\n" + page1 + "\r\n"), nil, "the answer was cut off: after line 2: unexpected EOF"},
		{"compressed and cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			io.WriteString(z, page1)
			z.Flush()
		}, nil, "the answer was cut off: after line 2: unexpected EOF"},
		{"compressed badly", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, page1)
		}, nil, "gzip: invalid header"},
		{"without end", endless(t, "other 1\n"), small, "the page is larger than 10000 bytes; choose a url with fewer metrics"},
		{"a line without end", endless(t, "other"), small, "the page is larger than 10000 bytes"},
		{"a bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			for range 1000 {
				io.WriteString(z, strings.Repeat("#", 10_000)+"\n")
			}
			z.Close()
		}, small, "the page is larger than 10000 bytes"},
		{"too many series", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 11 {
				fmt.Fprintf(w, "m{a=\"%d\"} 1\n", i)
			}
		}, func(o *Options) { o.MaxSeries = 10 }, "the figures select more than 10 series"},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, quick, "no complete answer within 100ms"},
		{"hangs in the middle", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, page1)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, quick, "no complete answer within 100ms: after line 2: context deadline exceeded"},
		{"drips", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, "#")
				w.(http.Flusher).Flush()
			}
		}, quick, "no complete answer within 100ms"},
		{"resets", func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}, nil, "reset by peer"},
		{"closes", raw(""), nil, "EOF"},
		{"speaks something else", raw("\x20\x02\x00\x00"), nil, "malformed HTTP"},
		{"a header without end", func(w http.ResponseWriter, r *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "X-Long: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, nil, "server response headers exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, test.handler)
			s, target := scraperFor(t, server.Listener.Addr().String(), test.options)
			f := s.fetch(t.Context(), target.location, target.client)
			r := s.read(target, &f)
			switch {
			case test.err == "" && (r.Err != nil || r.Util.Value != 0.5 || f.bytes != int64(len(page1))):
				t.Errorf("got %+v of %d bytes", r, f.bytes)
			case test.err != "" && (r.Err == nil || !strings.Contains(r.Err.Error(), test.err) || r.Util.At != 0):
				t.Errorf("\n got %v\nwant %s", r.Err, test.err)
			case r.Err != nil && (strings.Contains(r.Err.Error(), "\n") || len(r.Err.Error()) > 1000):
				t.Errorf("%q is no line for a log", r.Err)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, _ := w.(http.Hijacker).Hijack()
		defer c.Close()
		io.WriteString(c, text)
	}
}

// endless sends text until the reader has had enough, which must be soon.
func endless(t *testing.T, text string) http.HandlerFunc {
	t.Helper()
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		for range 1 << 24 {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
		t.Error("all was read")
	}
}

func TestFetchRefused(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s, target := scraperFor(t, address, nil)
	if f := s.fetch(t.Context(), target.location, target.client); f.err == nil || !strings.Contains(f.err.Error(), "connection refused") || f.at == 0 {
		t.Errorf("got %+v", f)
	}
}

func TestFetchTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, page1)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for _, test := range []struct {
		name, scheme, host string // httptest's certificate is for example.com
		config             *tls.Config
		err                string
	}{
		{"fine", "https", "example.com", &tls.Config{RootCAs: roots}, ""},
		{"a name that is set", "https", "broker.example", &tls.Config{RootCAs: roots, ServerName: "example.com"}, ""},
		{"another name", "https", "broker.example", &tls.Config{RootCAs: roots}, "not broker.example"},
		{"another authority", "https", "example.com", nil, "unknown authority"},
		{"no TLS", "http", "example.com", nil, "answered 400 Bad Request"},
	} {
		s, target := scraperFor(t, server.Listener.Addr().String(), func(o *Options) {
			o.URL, o.TLS = test.scheme+"://"+test.host+":{port}/", test.config
		})
		target.location.dial = server.Listener.Addr().String()
		target.client = newTransport(target.location.dial, s.options.TLS)
		f := s.fetch(t.Context(), target.location, target.client)
		if got := text(f.err); (got == "") != (test.err == "") || !strings.Contains(got, test.err) {
			t.Errorf("%s: got %v, want %q", test.name, f.err, test.err)
		}
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	var got atomic.Value
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("Authorization"))
		io.WriteString(w, page1)
	})
	file := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	address := server.Listener.Addr().String()
	bearer, bearerTarget := scraperFor(t, address, func(o *Options) { o.BearerTokenFile = file })
	basic, basicTarget := scraperFor(t, address, func(o *Options) { o.Username, o.PasswordFile = "me", file })
	fetch := func(s *Scraper, target *target, want, wantErr string) {
		t.Helper()
		got.Store("")
		f := s.fetch(t.Context(), target.location, target.client)
		if text(f.err) != wantErr || got.Load() != want {
			t.Errorf("got %q, error %v, want %q, %q", got.Load(), f.err, want, wantErr)
		}
	}
	fetch(bearer, bearerTarget, "Bearer first", "")
	fetch(basic, basicTarget, "Basic bWU6Zmlyc3Q=", "")
	write("second\r\n")
	fetch(bearer, bearerTarget, "Bearer second", "")
	write("\n")
	fetch(bearer, bearerTarget, "", "token file: "+file+" is empty")
	write("two\nlines")
	fetch(basic, basicTarget, "", "password file: "+file+" must hold one line")
	write(strings.Repeat("x", maxSecret+1))
	fetch(basic, basicTarget, "", "password file: "+file+" is longer than 16384 bytes")
	os.Remove(file)
	fetch(bearer, bearerTarget, "", "token file: open "+file+": no such file or directory")
}

// TestAnswersOfOneNameStayApart: two backends with one name must be asked each at its own address.
func TestAnswersOfOneNameStayApart(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"0.25", "0.75"} {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "m "+value+"\n") })
		s, target := scraperFor(t, server.Listener.Addr().String(), nil)
		f := s.fetch(t.Context(), target.location, target.client)
		if r := s.read(target, &f); fmt.Sprint(r.Util.Value) != value {
			t.Errorf("got %+v, want %s", r, value)
		}
	}
}

func TestFetchStops(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	s, target := scraperFor(t, server.Listener.Addr().String(), func(o *Options) { o.Timeout = 15 * time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	began := time.Now()
	if f := s.fetch(ctx, target.location, target.client); f.err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("got %+v after %v", f, time.Since(began))
	}
}
