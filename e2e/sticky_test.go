//go:build linux

package e2e

import (
	"fmt"
	"net"
	"testing"
)

func TestClientsKeepTheirBrokerWhateverElseChanges(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	const clients, visits = 300, 4
	versions := []byte{v31, v311, v5}
	for visit := range visits {
		for i := range clients {
			from := fmt.Sprintf("127.0.%d.%d", 1+visit, 1+i%250)
			o := opening{id: fmt.Sprint("device-", i), version: versions[(visit+i)%len(versions)], keep: i%2 == 0}
			if visit > 0 {
				o.username = fmt.Sprint("user-", visit)
			}
			connect(t, l, o, from).Close()
		}
	}
	most := 0
	for _, b := range brokers {
		clientsHere := 0
		for i := range clients {
			switch n := b.visits(fmt.Sprint("device-", i)); n {
			case 0:
			case visits:
				clientsHere++
			default:
				t.Errorf("client %d came to broker %s %d times of %d", i, b.name, n, visits)
			}
		}
		t.Logf("broker %s: %d clients", b.name, clientsHere)
		most = max(most, clientsHere)
	}
	if mean := clients / len(brokers); float64(most) > 1.25*float64(mean) {
		t.Errorf("one broker has %d of %d clients, more than 1.25 times the mean", most, clients)
	}
}

func TestConnectionsStayWithinTheBoundedLoad(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: "placement: {bounded_load: 1.05}"})
	const clients = 300
	for i := range clients {
		connect(t, l, opening{id: fmt.Sprint("device-", i)}, "")
	}
	for _, b := range brokers {
		if n := b.present(); n > 108 { // 1.05 times the mean, with a slack of two and rounding
			t.Errorf("broker %s has %d of %d connections", b.name, n, clients)
		}
	}
}

func TestClientsWithoutAnIDAreSpreadEvenly(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	for range 60 {
		connect(t, l, opening{version: v5}, "")
	}
	for _, b := range brokers {
		if n := b.present(); n < 15 || n > 25 {
			t.Errorf("broker %s has %d of 60 connections", b.name, n)
		}
	}
}

func TestTheSameConfigurationPlacesClientsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	const clients = 60
	for range 2 { // two instances, with the backends in another order
		l := startLB(t, settings{backends: behind(brokers)})
		for i := range clients {
			connect(t, l, opening{id: fmt.Sprint("device-", i)}, "").Close()
		}
		brokers[0], brokers[2] = brokers[2], brokers[0]
	}
	for i := range clients {
		for _, b := range brokers {
			if n := b.visits(fmt.Sprint("device-", i)); n == 1 {
				t.Errorf("client %d goes to broker %s on one instance only", i, b.name)
			}
		}
	}
}

func TestIPv6ClientsAreServed(t *testing.T) {
	t.Parallel()
	needIPv6(t)
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, host: "::1"})
	connect(t, l, opening{id: "six"}, "").Close()
	if r, _ := l.ended(t, "six", 0); !isIPv6(r["remote"]) {
		t.Errorf("logged remote=%s", r["remote"])
	}
}

func isIPv6(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return ip != nil && ip.To4() == nil
}

// needIPv6 skips the test on a host without IPv6: no script can install it.
func needIPv6(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("this host has no IPv6")
	}
	ln.Close()
}
