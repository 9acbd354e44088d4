package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/internal/testbroker"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// loyal keeps clients connected until ctx ends: each comes again at once when its connection ends.
func loyal(ctx context.Context, t *testing.T, address string, n int) (wait func()) {
	t.Helper()
	var clients sync.WaitGroup
	for i := range n {
		hello := mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{ClientID: fmt.Sprint("loyal-", i)})
		clients.Go(func() {
			for ctx.Err() == nil {
				stay(ctx, address, hello)
			}
		})
	}
	return clients.Wait
}

// stay is one connection of a client.
func stay(ctx context.Context, address string, hello []byte) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if _, err := c.Write(hello); err != nil {
		return
	}
	for buffer := make([]byte, 64); ; {
		if _, err := c.Read(buffer); err != nil {
			return
		}
	}
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(6 * appPatience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// Clients are moved off a broker that is drained and off one that discovery forgets, and to one that joins; all come
// back by themselves, each with one connection.
func TestClientsAreMoved(t *testing.T) {
	t.Parallel()
	const clients = 60
	brokers := []*testbroker.Broker{startBroker(t), startBroker(t), startBroker(t)}
	yaml := func(rate int, these ...*testbroker.Broker) string {
		var addresses []string
		for _, b := range these {
			addresses = append(addresses, b.Addr())
		}
		return strings.Replace(appYAML("", addresses...), "name: test,",
			fmt.Sprintf("name: test, drain: {rate: %d/s, in_flight: 20, min_age: 0s, will: suppress}, rebalance: {auto: true}, ", rate), 1)
	}
	a := startApp(t, yaml(100, brokers[:2]...))
	ctx, end := context.WithCancel(t.Context())
	defer loyal(ctx, t, a.address, clients)()
	defer end()
	seated := func() bool {
		n := 0
		for _, b := range brokers {
			n += b.Count()
		}
		return n == clients
	}
	eventually(t, "all clients are connected", seated)

	c, moved := a.clusters()[0], brokers[0].Count()
	if err := c.Drain("b0", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b0 is empty", func() bool { return brokers[0].Count() == 0 && seated() })
	a.wantLog(`a backend is empty; it can be stopped`)
	a.wantMetric(fmt.Sprintf(`mqttlb_evictions_total{cluster="test",reason="emptying",result="moved"} %d`, moved))
	a.wantMetric(fmt.Sprintf(`mqttlb_evicted_return_seconds_count{cluster="test"} %d`, moved))
	if s := c.Status().Moves; int(s.Moved) != moved || int(s.Returned) != moved || s.InFlight != 0 || s.Lost != 0 {
		t.Errorf("got %+v, want %d clients moved and returned", s, moved)
	}
	if err := c.Resume("b0"); err != nil {
		t.Fatal(err)
	}

	// A third broker joins, and the pace is another one.
	a.rewrite(yaml(200, brokers...))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Drain("b1", 0); err != nil {
		t.Fatal(err)
	}
	if rate := c.Status().Backends[1].Drain.Rate; rate != 100 {
		t.Errorf("got rate %v after the reload, want 100", rate)
	}
	eventually(t, "b1 is empty", func() bool { return brokers[1].Count() == 0 && seated() })
	if _, events := a.get("/api/v1/status"); !strings.Contains(events, `"moves":`) {
		t.Errorf("got status %s, want the moves in it", events)
	}

	// Discovery forgets it.
	a.rewrite(yaml(200, brokers[0]))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are on b0", func() bool { return brokers[0].Count() == clients && len(c.Status().Backends) == 1 })
}

// A stop does not wait for moves, and a cluster that was removed moves nobody.
func TestMovesEnd(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	a := startApp(t, strings.Replace(appYAML("shutdown: {grace: 0s, drain: 1s}", first.Addr(), second.Addr()), "name: test,",
		"name: test, drain: {rate: 1/s, min_age: 0s}, ", 1))
	ctx, end := context.WithCancel(t.Context())
	defer loyal(ctx, t, a.address, 20)()
	defer end()
	eventually(t, "all clients are connected", func() bool { return first.Count()+second.Count() == 20 })
	c := a.clusters()[0]
	if err := c.Drain("b0", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "moves are planned", func() bool { return c.Status().Moves.Pending > 0 })
	if status, _ := a.get("/readyz"); status != http.StatusOK {
		t.Errorf("got readiness %d, want 200", status)
	}
	a.shutdown(t.Context())
	if _, err := c.Rebalance(true, 1); err == nil {
		t.Error("got a plan after the stop, want an error")
	}
}
