package main

import (
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// plainProxy deals connections in turn to the brokers of a fleet, as far as they answer. It is as much of a proxy as the
// scenarios need to be tried without one.
type plainProxy struct {
	listener net.Listener
	backends []netip.AddrPort
	active   atomic.Int64
	next     atomic.Int64
}

func newPlainProxy(t *testing.T, backends []netip.AddrPort, active int) *plainProxy {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &plainProxy{listener: l, backends: backends}
	p.active.Store(int64(active))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	return p
}

func (p *plainProxy) carry(c net.Conn) {
	defer c.Close()
	for range p.backends {
		b, err := net.Dial("tcp4", p.backends[p.next.Add(1)%p.active.Load()].String())
		if err != nil {
			continue
		}
		go func() {
			defer b.Close()
			_, _ = io.Copy(b, c)
		}()
		_, _ = io.Copy(c, b)
		b.Close()
		return
	}
}

// playFleet has a small fleet behind a plain proxy, and returns when all clients are connected.
func playFleet(t *testing.T, size fleetSize) (*fleet, *plainProxy) {
	t.Helper()
	brokers, err := newFleetBrokers(size.brokers + size.spare)
	if err != nil {
		t.Fatal(err)
	}
	proxy := newPlainProxy(t, brokers.addresses(), size.brokers)
	f := &fleet{size: size, brokers: brokers}
	end := f.connect(t.Context(), size, netip.MustParseAddrPort(proxy.listener.Addr().String()))
	t.Cleanup(func() {
		end()
		brokers.close()
	})
	if err := f.awaitAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return f, proxy
}

func TestStorm(t *testing.T) {
	t.Parallel()
	const clients = 60
	f, _ := playFleet(t, fleetSize{brokers: 3, clients: clients, plan: fleetPlan{atOnce: true}})
	figures, err := f.storm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if back := figures[figureAllBack]; back <= 0 || back > stormTimeout.Seconds() {
		t.Errorf("got all back after %v s", back)
	}
	all, one := figures[figureConnects], figures[figureOneBroker]
	if all < 1 || all > clients || one < 1 || one > all {
		t.Errorf("got %v CONNECTs in a second, %v at one broker, of %d", all, one, clients)
	}
	if _, has := figures[figureCPU]; has {
		t.Error("without a process there is no CPU time: got one")
	}
	if got := len(connectTimes(f.brokers.history(), time.Time{}, anyBroker)); got < 2*clients {
		t.Errorf("got %d CONNECTs, want two of each of %d clients", got, clients)
	}
}

func TestBalance(t *testing.T) {
	t.Parallel()
	// Every client leaves so often that the new broker is soon full.
	f, proxy := playFleet(t, fleetSize{
		brokers: 2, spare: 1, clients: 40, observe: 2 * time.Second, plan: fleetPlan{lifetime: 500 * time.Millisecond},
	})
	figures, err := f.watchJoin(t.Context(), func() error {
		proxy.active.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if figures[figureShare] <= 0 || figures[figureMax] < 1 || figures[figureStrayed] <= 0 {
		t.Errorf("got share %v, fullest %v, strayed %v", figures[figureShare], figures[figureMax], figures[figureStrayed])
	}
	if figures[figureCuts] != 0 {
		t.Errorf("nobody cuts a client off here: got %v disconnects", figures[figureCuts])
	}
}

func TestRolling(t *testing.T) {
	t.Parallel()
	f, _ := playFleet(t, fleetSize{
		brokers: 3, clients: 12, groups: 2, members: 3,
		down: 100 * time.Millisecond, apart: 1200 * time.Millisecond, settle: 10 * time.Millisecond,
	})
	before := f.brokers.addresses()
	figures, err := f.rolling(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if cuts := figures[figureCuts]; cuts < 0.9 || cuts > 3 {
		t.Errorf("got %v disconnects per client, want about one or some more", cuts)
	}
	if figures[figureSkew] < 1 || figures[figureMax] < 1 {
		t.Errorf("got skew %v, fullest %v, want at least 1", figures[figureSkew], figures[figureMax])
	}
	for i, address := range f.brokers.addresses() {
		if address != before[i] {
			t.Errorf("broker %d came back at %v, was at %v", i, address, before[i])
		}
	}
}

// A system is in the table with every variant that it has, and in no row twice.
func TestFleetRowsShowAllVariants(t *testing.T) {
	t.Parallel()
	for scenario, systems := range fleetVariants {
		shown := make(map[string]bool)
		for _, w := range fleetRows {
			if w.scenario != scenario {
				continue
			}
			if shown[w.label] {
				t.Errorf("%s: row %q is there twice", scenario, w.label)
			}
			shown[w.label] = true
		}
		for system, variants := range systems {
			for _, variant := range variants {
				figures := map[string]float64{figureFailed + "/" + variant: 7, figureFull + "/" + variant: 7, figureMax + "/" + variant: 7}
				one := results{{Scenario: scenario, System: system, Result: loadResult{Figures: figures}}}
				found := false
				for _, w := range fleetRows {
					found = found || w.scenario == scenario && w.figure(one, system) == 7
				}
				if !found {
					t.Errorf("%s: no row shows %s, %s", scenario, system, variant)
				}
			}
		}
	}
}

func TestFleetConfigs(t *testing.T) {
	t.Parallel()
	backends := []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:2001"), netip.MustParseAddrPort("127.0.0.1:2002"), netip.MustParseAddrPort("127.0.0.1:2003"),
	}
	for name := range fleetTemplates {
		p := fleetProxy{system: system{name: name}, config: fleetConfig{
			proxyConfig: proxyConfig{Listen: netip.MustParseAddrPort("127.0.0.1:1883"), Backends: backends, Threads: 2, Folder: t.TempDir()},
			Variant:     variantOwn, Active: 2, Ramp: 5, MinAge: 5, MoveRate: 50, Limit: 500,
		}}
		text := ""
		for range 2 {
			first, err := p.writeConfig()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text = readAll(t, p.config.Folder)
			if !strings.Contains(text, "1883") || first == "" {
				t.Errorf("%s: got file %q with\n%s", name, first, text)
			}
			for i, b := range backends {
				used := strings.Contains(text, portOf(b)) && !strings.Contains(text, b.String()+" disabled")
				if used != (i < p.config.Active) {
					t.Errorf("%s, %d in use: got broker %d used %v in\n%s", name, p.config.Active, i, used, text)
				}
			}
			p.config.Active++
		}
	}
}

func readAll(t *testing.T, folder string) string {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(folder, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}

func portOf(a netip.AddrPort) string { return strconv.Itoa(int(a.Port())) }
