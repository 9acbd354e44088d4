package main

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startTLSEnd ends TLS in front of the stub, as a proxy does.
func startTLSEnd(t *testing.T, behind netip.AddrPort) string {
	t.Helper()
	folder := t.TempDir()
	if err := writeCertificates(folder); err != nil {
		t.Fatal(err)
	}
	var config tls.Config
	for _, kind := range []string{keyECDSA, keyRSA} {
		path := certificatePath(folder, kind)
		pair, err := tls.LoadX509KeyPair(path, path)
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = append(config.Certificates, pair)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				broker, err := net.Dial("tcp", behind.String())
				if err != nil {
					return
				}
				defer broker.Close()
				go func() { _, _ = io.Copy(client, broker) }()
				_, _ = io.Copy(broker, client)
			}()
		}
	}()
	return l.Addr().String()
}

func TestLoadsOverTLS(t *testing.T) {
	_, stub := startTestStub(t)
	address := startTLSEnd(t, stub)
	for _, load := range []string{
		"connect -connections 4 -tls 1.3", "connect -connections 4 -tls 1.2 -level 5", "pingpong -connections 10 -tls 1.3 -group x25519mlkem768",
		"idle -connections 30 -fewer 10 -settle 10ms -tls 1.3",
	} {
		words := strings.Fields(load + " -warmup 10ms -duration 300ms -target " + address)
		c, err := parseLoad(words[0], words[1:])
		if err != nil {
			t.Fatal(err)
		}
		r, err := generators(c)[words[0]](c)
		if err != nil {
			t.Errorf("%s: %v", load, err)
			continue
		}
		if r.Work <= 0 || r.Elapsed < 300*time.Millisecond || r.Memory == nil && (r.P50 <= 0 || r.Largest < r.P99) {
			t.Errorf("%s: got %+v", load, r)
		}
	}
	c := loadConfig{target: stub, level: levelMQTT311, connections: 1, warmup: time.Millisecond, duration: time.Second}
	c.tls, _ = tlsConfig("1.3", groupX25519)
	if _, err := connectTLS(c); err == nil {
		t.Error("a broker without TLS: got no error")
	}
}

func TestTLSFlags(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"-tls 1.1", "-tls 1.3 -group p256"} {
		if _, err := parseLoad(modeConnect, strings.Fields(bad)); !errors.Is(err, errUsage) {
			t.Errorf("load connect %s: got %v, want wrong usage", bad, err)
		}
	}
	if err := loadCommand(strings.Fields("bulk -tls 1.3"), io.Discard); !errors.Is(err, errUsage) {
		t.Errorf("load bulk -tls: got %v, want wrong usage", err)
	}
}

// direct has no TLS, and what only mqttlb can do is asked of nobody else.
func TestTLSScenarios(t *testing.T) {
	t.Parallel()
	p := fullPlan()
	if err := p.narrow(wordTLS); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.scenarios {
		if s.tls == nil || !s.takes(mqttlb) {
			t.Errorf("%s: want it over TLS and with mqttlb", s.name)
		}
		if s.takes(haproxy) != (s.tls.group == groupX25519) {
			t.Errorf("%s: with HAProxy %v", s.name, s.takes(haproxy))
		}
		with, without := strings.Join(p.loadArgs(s, mqttlb), " "), strings.Join(p.loadArgs(s, direct), " ")
		if !strings.Contains(with, "-tls "+s.tls.version) || strings.Contains(without, "-tls") {
			t.Errorf("%s: got %q and %q", s.name, with, without)
		}
	}
	for _, file := range []string{"haproxy.cfg.tmpl", "nginx.conf.tmpl", "mqttlb.yaml.tmpl"} {
		c := proxyConfig{Threads: 2, Folder: t.TempDir(), PEM: filepath.Join("certificates", "ecdsa.pem")}
		path, err := system{template: file}.writeConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), c.PEM) {
			t.Errorf("%s: the certificate is missing in\n%s", file, text)
		}
	}
}
