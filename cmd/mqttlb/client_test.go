package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/config"
)

func TestAdminTarget(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	exists, missing := folder, filepath.Join(folder, "missing")
	for _, test := range []struct {
		name, flag string
		cfg        *config.Admin
		socket     string
		want       string
	}{
		{"flag", "http://a:1", &config.Admin{Socket: "/b"}, exists, "http://a:1"},
		{"socket of the configuration", "", &config.Admin{Socket: "/b", Address: ":1"}, exists, "/b"},
		{"socket beside the configuration", "", &config.Admin{Socket: "admin.sock"}, exists, "unix:admin.sock"},
		{"address of the configuration", "", &config.Admin{Address: "10.0.0.1:9180"}, exists, "http://10.0.0.1:9180"},
		{"all addresses", "", &config.Admin{Address: ":9180"}, exists, "http://127.0.0.1:9180"},
		{"all IPv4 addresses", "", &config.Admin{Address: "0.0.0.0:9180"}, exists, "http://127.0.0.1:9180"},
		{"all IPv6 addresses", "", &config.Admin{Address: "[::]:9180"}, exists, "http://[::1]:9180"},
		{"usual socket", "", nil, exists, exists},
		{"usual address", "", nil, missing, "http://127.0.0.1:9180"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := adminTarget(test.flag, test.cfg, test.socket)
			if err != nil || got != test.want {
				t.Errorf("got %q (error %v), want %q", got, err, test.want)
			}
		})
	}
	if _, err := adminTarget("", &config.Admin{}, exists); !errors.As(err, new(usageError)) {
		t.Errorf("without socket and address: got %v, want a usage error", err)
	}
}

func TestInvalidAdminFlag(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"127.0.0.1:9180", "localhost", "admin.sock", "ftp://a", "http://", "http://a/api", "http://a?b", "http://a\x7f"} {
		_, err := newAdminClient(where)
		if !errors.As(err, new(usageError)) || !strings.Contains(err.Error(), "use unix:/PATH, /PATH or http://HOST:PORT") {
			t.Errorf("%q: got %v, want a usage error that says what to write", where, err)
		}
	}
	for _, where := range []string{"http://a:1", "http://a:1/", "https://a", "http://[::1]:9180", "/a", "unix:/a", "unix:a"} {
		if _, err := newAdminClient(where); err != nil {
			t.Errorf("%q: got %v, want none", where, err)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	stale := filepath.Join(folder, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	at := "http://" + free.Addr().String()
	for where, want := range map[string]string{
		folder + "/none":  "cannot reach mqttlb at " + folder + "/none: no such file or directory; is it running? say where with -c FILE or --admin",
		"unix:" + stale:   "cannot reach mqttlb at unix:" + stale + ": connection refused; is it running? say where with -c FILE or --admin",
		at:                "cannot reach mqttlb at " + at + ": connection refused; is it running? say where with -c FILE or --admin",
		"http://a.test:0": "cannot reach mqttlb at http://a.test:0: ",
	} {
		_, err := execCommand(t, statusCommand, "--admin", where)
		if err == nil || !strings.HasPrefix(err.Error(), want) || errors.As(err, new(usageError)) {
			t.Errorf("%s: got %v, want %s", where, err, want)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := newAdminClient("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.ask(t.Context(), http.MethodGet, "/livez", nil, 20*time.Millisecond)
	if want := "no answer within 20ms; is it running? say where with -c FILE or --admin"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// --admin may point to something else.
func TestSomebodyElseAnswers(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/status":
			_, _ = io.WriteString(w, "<html>")
		case "/api/v1/clusters":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		case "/api/v1/clients":
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "{}")
		default:
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "first\x1b[2J\nsecond")
		}
	}))
	t.Cleanup(other.Close)
	check := func(got error, want string) {
		t.Helper()
		if got == nil || got.Error() != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	_, err := execCommand(t, statusCommand, "--admin", other.URL)
	check(err, other.URL+" has sent something that is not JSON; is it mqttlb?")
	_, err = execCommand(t, backendsCommand, "--admin", other.URL)
	check(err, other.URL+" has answered 302 Found; is it mqttlb?")
	_, err = execCommand(t, clientsCommand, "--admin", other.URL)
	check(err, other.URL+" has answered 502 Bad Gateway; is it mqttlb?")
	_, err = execCommand(t, healthcheckCommand, "--admin", other.URL)
	check(err, `not healthy: "first\x1b[2J"`)
}
