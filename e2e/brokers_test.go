//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A broker is a real one.
type broker struct {
	*process
	address string
	log     *logBook
}

// startMosquitto runs a mosquitto on a free port and waits until it answers.
func startMosquitto(t *testing.T) *broker {
	t.Helper()
	return startMosquittoOn(t, loopback(t))
}

// startMosquittoOn runs a mosquitto that listens on each of these addresses; the first one is the broker's. It keeps
// every message for clients that are away.
func startMosquittoOn(t *testing.T, addresses ...string) *broker {
	t.Helper()
	need(t, "mosquitto")
	b := &broker{address: addresses[0], log: newLogBook()}
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	configuration := "allow_anonymous true\nuser root\nlog_dest stderr\nmax_queued_messages 0\n"
	for _, address := range addresses {
		host, port, _ := net.SplitHostPort(address)
		configuration += fmt.Sprintf("listener %s %s\n", port, host)
	}
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	b.process = start(t, b.log, exec.Command("mosquitto", "-c", file))
	b.waitUntilUp(t, 10*time.Second)
	return b
}

// waitUntilUp waits until the broker accepts connections.
func (b *broker) waitUntilUp(t *testing.T, within time.Duration) {
	t.Helper()
	eventually(t, within, b.name+" accepts connections", func() bool {
		if !b.running() {
			t.Fatalf("%s has ended:\n%s", b.name, b.log)
		}
		c, err := net.DialTimeout("tcp", b.address, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}
