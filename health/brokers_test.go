package health_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/internal/testbroker"
)

// Against mochi: both versions, and no trace left.
func TestProbesAgainstMochi(t *testing.T) {
	left := make(chan string, 10)
	b, err := testbroker.Start(testbroker.Options{Disconnected: func(_ *testbroker.Broker, id string) { left <- id }})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Stop()
	backend := balancer.Backend{Name: "n1", Address: b.Addr()}
	p := mqtt(t, health.MQTTOptions{Instance: "lb-1"})
	for known, want := range map[byte]byte{0: 5, 5: 5, 4: 4} {
		wanted{version: want}.check(t, probe(t, p, backend, known, patience))
		if id := <-left; id != "mqttlb-health-lb-1-n1" {
			t.Errorf("version %d: client %q has left, want the probe", known, id)
		}
	}
	if r := probe(t, new(health.TCP), backend, 0, patience); r.Err != nil {
		t.Error(r.Err)
	}
	b.Stop()
	if r := probe(t, p, backend, 5, patience); r.Err == nil {
		t.Error("the probe passes with a broker that is stopped")
	}
}

// A mosquitto is one that runs for a test.
type mosquitto struct {
	backend balancer.Backend
	process *os.Process
}

func startMosquitto(t *testing.T, config string) mosquitto {
	t.Helper()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/mosquitto"); err != nil {
			const missing = "mosquitto is missing; e2e/install.sh installs it"
			if os.Getenv("E2E_REQUIRED") == "1" {
				t.Fatal(missing)
			}
			t.Skip(missing)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr)
	listener.Close()
	path := filepath.Join(t.TempDir(), "mosquitto.conf")
	config = fmt.Sprintf("listener %d 127.0.0.1\npersistence false\n%s\n", address.Port, config)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	log := new(strings.Builder)
	cmd := exec.Command(program, "-v", "-c", path)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGCONT)
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(log)
		}
		if strings.Contains(log.String(), "not properly") || strings.Contains(log.String(), "Socket error") {
			t.Errorf("mosquitto complains about the probe:\n%s", log)
		}
	})
	for deadline := time.Now().Add(patience); ; {
		conn, err := net.Dial("tcp", address.String())
		if err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("mosquitto does not start: %v\n%s", err, log)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return mosquitto{balancer.Backend{Name: "n1", Address: address.String()}, cmd.Process}
}

func TestProbesAgainstMosquitto(t *testing.T) {
	m := startMosquitto(t, "allow_anonymous true")
	p := mqtt(t, health.MQTTOptions{Instance: "lb-1"})
	for known, want := range map[byte]byte{0: 5, 5: 5, 4: 4} {
		wanted{version: want}.check(t, probe(t, p, m.backend, known, patience))
	}
	// The kernel accepts for a process that stands still: only an answer proves that somebody is there.
	m.process.Signal(syscall.SIGSTOP)
	wanted{err: "i/o timeout"}.check(t, probe(t, p, m.backend, 5, brief))
	if r := probe(t, new(health.TCP), m.backend, 0, patience); r.Err != nil {
		t.Errorf("TCP sees that the broker hangs: %v", r.Err)
	}
}

func TestProbesAgainstMosquittoWithPasswords(t *testing.T) {
	m := startMosquitto(t, "allow_anonymous false")
	wanted{version: 5, note: "0x87 not authorized"}.check(t, probe(t, mqtt(t, health.MQTTOptions{}), m.backend, 0, patience))
	wanted{version: 4, note: "0x05 not authorized"}.check(t, probe(t, mqtt(t, health.MQTTOptions{}), m.backend, 4, patience))
	wanted{err: "not authorized"}.check(t, probe(t, mqtt(t, health.MQTTOptions{Username: "u"}), m.backend, 0, patience))
}

// The whole of it: a Checker with an MQTT probe sees a broker leave and come back.
func TestCheckerSeesABrokerLeave(t *testing.T) {
	b, err := testbroker.Start(testbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Stop()
	verdicts := make(chan health.Report, 100)
	checker, err := health.NewChecker(health.Options{
		Prober: mqtt(t, health.MQTTOptions{}), Interval: 10 * time.Millisecond,
		Report: func(r health.Report) {
			if r.Changed {
				verdicts <- r
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { checker.Run(ctx) })
	defer running.Wait()
	defer cancel()
	checker.Set([]balancer.Backend{{Name: "n1", Address: b.Addr()}})
	if r := <-verdicts; !r.Up || r.Version != 5 || r.Latency <= 0 {
		t.Errorf("got %+v, want it up", r)
	}
	b.Stop()
	if r := <-verdicts; r.Up || r.FailedChecks != health.DefaultFall || r.Err == "" {
		t.Errorf("got %+v, want it down after %d checks", r, health.DefaultFall)
	}
	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	if r := <-verdicts; !r.Up || r.PassedChecks != health.DefaultRise {
		t.Errorf("got %+v, want it up after %d checks", r, health.DefaultRise)
	}
}
