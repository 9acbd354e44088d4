package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is long: the machine may be busy.
const patience = time.Minute

// eventful are the metrics that come with the first of what they count, which does not happen here.
var eventful = []string{
	"mqttlb_backend_connect_failures_total", "mqttlb_backend_tls_handshakes_total", "mqttlb_evicted_return_seconds_bucket",
	"mqttlb_evicted_return_seconds_count", "mqttlb_evicted_return_seconds_sum", "mqttlb_evictions_total",
	"mqttlb_nonconforming_total", "mqttlb_redirects_total", "mqttlb_refused_total", "mqttlb_source_exhausted_total",
	"mqttlb_takeovers_total",
}

// What the dashboard and the alerts ask for is what a running mqttlb says, with all that it can have switched on.
func TestMetricsOfARunningBinary(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	binary := filepath.Join(folder, "mqttlb")
	build := exec.CommandContext(t.Context(), "go", "build", "-C", "../..", "-trimpath", "-o", binary, "./cmd/mqttlb")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the gate has built it already
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	load := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "load 0.5") }))
	defer load.Close()
	broker := listen(t)
	defer broker.Close()
	go greet(broker)
	cert, key := certificate(t, folder)
	admin, plain, web, secure := free(t), free(t), free(t), free(t)
	file := filepath.Join(folder, "mqttlb.yaml")
	text := fmt.Sprintf(`
instance: {state_file: %q}
admin: {address: %q, socket: ""}
shutdown: {grace: 0s, drain: 0s}
listeners:
  - {name: mqtt, address: %q, cluster: a, limits: {connections: 100, connects: 100/s, connects_per_client: 10/s}}
  - {name: web, address: %q, cluster: a, transport: websocket}
  - {name: mqtts, address: %q, tls: {mode: terminate, certificates: [{cert: %q, key: %q}]}, routes: [{cluster: a, username: .*}]}
clusters:
  - name: a
    discovery: {static: [{name: n1, address: %q}]}
    placement: {groups: [{learn: true}]}
    health: {interval: 1s}
    load: {preset: prometheus, url: %q, interval: 1s, figures: [{metric: load}]}
`, filepath.Join(folder, "state"), admin, plain, web, secure, cert, key, broker.Addr(), load.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, "run", "-c", file)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("mqttlb has ended with %v; its log:\n%s", err, &log)
		}
	}()

	want := slices.Collect(func(yield func(string) bool) {
		for name := range known(t) {
			if name != "up" && !slices.Contains(eventful, name) && !yield(name) {
				return
			}
		}
	})
	var missing []string
	greeted := false
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if !greeted {
			greeted = greetedBy(plain, nil) && greetedBy(secure, &tls.Config{InsecureSkipVerify: true})
			continue
		}
		has := shown(admin)
		missing = slices.DeleteFunc(slices.Clone(want), func(name string) bool { return has[name] })
		if len(missing) > 0 {
			continue
		}
		for name := range has {
			if strings.HasPrefix(name, "mqttlb_") && known(t)[name] == nil {
				t.Errorf("metrics/testdata/metrics.txt does not have %s", name)
			}
		}
		return
	}
	t.Errorf("clients were served: %v; mqttlb does not show %q", greeted, missing)
}

// The pages for operators name no metric that does not exist.
func TestMetricsInTheDocs(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatalf("got %d pages, error %v", len(pages), err)
	}
	metrics, found := known(t), 0
	for name := range metrics {
		metrics[strings.TrimSuffix(name, "_bucket")] = nil
	}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bmqttlb_[a-z_]*[a-z]\b`).FindAllString(string(text), -1) {
			found++
			if _, ok := metrics[name]; !ok {
				t.Errorf("%s names %s, which does not exist", page, name)
			}
		}
	}
	if found < 20 {
		t.Errorf("got %d names; is the test blind?", found)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var c net.ListenConfig
	ln, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().String()
}

// greet is a broker that accepts every client, and says no more.
func greet(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			if _, err := conn.Read(make([]byte, 1024)); err != nil {
				return
			}
			_, _ = conn.Write([]byte{0x20, 2, 0, 0})
			_, _ = io.Copy(io.Discard, conn)
		}()
	}
}

// greetedBy tells whether a client is accepted at an address.
func greetedBy(address string, secure *tls.Config) bool {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return false
	}
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	// MQTT 3.1.1, clean session and a user name, both of which are x.
	if _, err := conn.Write([]byte("\x10\x10\x00\x04MQTT\x04\x82\x00\x3c\x00\x01x\x00\x01x")); err != nil {
		return false
	}
	connack := make([]byte, 4)
	_, err = io.ReadFull(conn, connack)
	return err == nil && connack[3] == 0
}

// shown are the metrics at an address of the API.
func shown(address string) map[string]bool {
	names := make(map[string]bool)
	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return names
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	for _, name := range regexp.MustCompile(`(?m)^[a-z]\w*`).FindAllString(string(text), -1) {
		names[name] = true
	}
	return names
}

// certificate writes a certificate and its key, and returns their files.
func certificate(t *testing.T, folder string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().AddDate(0, 0, 90)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("tls.crt", "CERTIFICATE", public), write("tls.key", "PRIVATE KEY", secret)
}
