//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// MQTT.js speaks MQTT over WebSocket through mqttlb with a broker that knows nothing of it.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{
		backends: []backend{{"a", startMosquitto(t).address}},
		listener: "transport: websocket\nwebsocket: {origins: [\"https://app.example\"]}",
	})
	for _, level := range []string{"3", "4", "5"} {
		t.Run("MQTT.js_level_"+level, func(t *testing.T) {
			t.Parallel()
			runWebSocketMQTTJS(t, "ws://"+l.address+"/mqtt", level)
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		for path, want := range map[string]int{"/": http.StatusNotFound, "/mqtt": http.StatusUpgradeRequired} {
			answer, err := http.Get("http://" + l.address + path)
			if err != nil {
				t.Fatal(err)
			}
			advice, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if answer.StatusCode != want || len(advice) == 0 {
				t.Errorf("GET %s: got %s with %q, want %d with advice", path, answer.Status, advice, want)
			}
		}
		l.refused(t, "websocket_path")
		l.refused(t, "websocket_request")
	})
}

func runWebSocketMQTTJS(t *testing.T, address, level string, more ...string) {
	t.Helper()
	out := newLogBook()
	args := append([]string{"testdata/mqttjs-websocket.js", address, level, "websocket-" + level}, more...)
	if status := start(t, out, nodeScript(t, args...)).exit(t, patience); status != 0 {
		t.Errorf("node ended with status %d:\n%s", status, out)
	}
}

// The same over TLS.
func TestWebSocketOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificateFiles(t)
	l := startLB(t, settings{
		backends: []backend{{"a", startMosquitto(t).address}},
		listener: fmt.Sprintf("transport: websocket\ntls: {mode: terminate, certificates: [{cert: %q, key: %q}]}", cert, key),
	})
	for _, level := range []string{"4", "5"} {
		t.Run("MQTT.js_level_"+level, func(t *testing.T) {
			t.Parallel()
			runWebSocketMQTTJS(t, "wss://"+l.address+"/mqtt", level, cert)
		})
	}
}

// certificateFiles makes a certificate for 127.0.0.1 that signs itself, and its key.
func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mqttlb"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	cert, key = filepath.Join(folder, "tls.crt"), filepath.Join(folder, "tls.key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: signed}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// A page in a real browser does what a client does; a page of another site may not even connect.
func TestWebSocketFromABrowser(t *testing.T) {
	t.Parallel()
	browser := findBrowser(t)
	site := newSite(t)
	l := startLB(t, settings{
		backends: []backend{{"a", startMosquitto(t).address}},
		listener: fmt.Sprintf("transport: websocket\nwebsocket: {path: /in, origins: [%q]}", site.server.URL),
	})
	for _, level := range []string{"4", "5"} {
		if got := site.visit(t, browser, site.server.URL, "ws://"+l.address+"/in", level); got != "all have come" {
			t.Errorf("level %s: the page says %q, want that all messages have come", level, got)
		}
	}
	elsewhere := strings.Replace(site.server.URL, "127.0.0.1", "localhost", 1)
	if got := site.visit(t, browser, elsewhere, "ws://"+l.address+"/in", "5"); got == "all have come" {
		t.Errorf("a page of %s may connect, want only those of %s", elsewhere, site.server.URL)
	}
	l.refused(t, "websocket_origin")
}

// findBrowser returns the path of a browser that knows the options of Chromium.
func findBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no chromium; e2e/install.sh installs it on Debian")
	return ""
}

// A site serves the page and MQTT.js to it, and hears from the page how it went.
type site struct {
	server *httptest.Server
	told   chan string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{told: make(chan string, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/websocket.html") })
	bundle := filepath.Join(mqttJSFolder(t), "dist", "mqtt.min.js")
	mux.HandleFunc("GET /mqtt.min.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, bundle) })
	mux.HandleFunc("POST /result", func(_ http.ResponseWriter, r *http.Request) {
		what, _ := io.ReadAll(r.Body)
		s.told <- string(what)
	})
	s.server = httptest.NewServer(mux)
	t.Cleanup(s.server.Close)
	return s
}

// visit opens the page in a browser and returns what it says.
func (s *site) visit(t *testing.T, browser, origin, broker, level string, more ...string) string {
	t.Helper()
	page := origin + "/?" + url.Values{"url": {broker}, "level": {level}}.Encode()
	out := newLogBook()
	args := []string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost", "--user-data-dir=" + t.TempDir(), "--remote-debugging-port=0",
	}
	p := start(t, out, exec.Command(browser, append(append(args, more...), page)...))
	defer p.kill(t)
	select {
	case what := <-s.told:
		return what
	case <-time.After(2 * patience):
		t.Fatalf("the page has said nothing:\n%s", out)
		return ""
	}
}
