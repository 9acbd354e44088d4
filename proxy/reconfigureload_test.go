package proxy

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Clients come all the time, and nobody is refused by a listener that stays while all else changes.
func TestReconfigureUnderLoad(t *testing.T) {
	t.Parallel()
	const reloads, clients = 50, 4
	r := newRig(t, rigOptions{loops: 2})
	go func() {
		for {
			c, err := r.brokers[0].Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := io.ReadAtLeast(c, make([]byte, 64), 14); err == nil {
					_, _ = c.Write(connack())
					_, _ = io.Copy(io.Discard, c)
				}
			}()
		}
	}()
	var served atomic.Int64
	var busy sync.WaitGroup
	stop := make(chan struct{})
	for range clients {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Errorf("got %v, want a connection", err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, err = c.Write(connect("c"))
				if err == nil {
					_, err = io.ReadFull(c, make([]byte, 4))
				}
				if err != nil {
					t.Errorf("got %v, want CONNACK", err)
				}
				_ = c.(*net.TCPConn).SetLinger(0) // spares ports
				_ = c.Close()
				served.Add(1)
			}
		})
	}
	go func() {
		for range r.told.ended { // or it would fill up
		}
	}()
	go func() {
		for range r.told.answered {
		}
	}()
	placers := []*fakePlacer{r.placer, {backends: r.placer.backends}}
	for i := range reloads {
		list := r.listeners()
		list[0].MaxConnections = 1000 + i
		list[0].Placer = placers[i%2]
		if i%3 == 0 {
			list[0].Name = "other"
		}
		for n := range i % 4 {
			list = append(list, Listener{Name: fmt.Sprint("more-", n), Address: "127.0.0.1:0", Placer: placers[i%2]})
		}
		r.reconfigure(list...)
		for before := served.Load(); served.Load() < before+5 && !t.Failed(); {
			time.Sleep(100 * time.Microsecond)
		}
	}
	close(stop)
	busy.Wait()
	for deadline := time.Now().Add(patience); r.proxy.Stats().Sessions > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for _, p := range placers {
		if n := p.held(); n != 0 {
			t.Errorf("got %d places that were not released, want none", n)
		}
	}
	for name, n := range r.proxy.Connections() {
		if n != 0 {
			t.Errorf("got %d connections of listener %s in the end, want none", n, name)
		}
	}
	if r.proxy.Uses(placers[0]) && r.proxy.Uses(placers[1]) {
		t.Error("got both placers in use, want only the one that a listener has")
	}
	r.proxy.Close()
	close(r.told.ended)
	close(r.told.answered)
}

// Lists come and go at random; a book-keeper who knows only names and addresses says what must be open.
func TestReconfigureLikeABook(t *testing.T) {
	t.Parallel()
	const most = 4
	r := newRig(t, rigOptions{loops: 2})
	var addresses []string
	for range most {
		addresses = append(addresses, quietAddress(t))
	}
	type pair struct {
		name           string
		client, broker *net.TCPConn
	}
	var open []pair
	rng := rand.New(rand.NewPCG(5, 5))
	for range 60 {
		var list []Listener
		names := rng.Perm(most)
		for i, address := range addresses {
			if rng.IntN(2) == 0 {
				list = append(list, Listener{Name: fmt.Sprint("l", names[i]), Address: address, Placer: r.placer, MaxConnections: 100 + rng.IntN(2)})
			}
		}
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		r.reconfigure(list...)
		want := make(map[string]int)
		listening := make(map[string]bool)
		for _, l := range list {
			want[l.Name] += 0
			listening[l.Address] = true
			client, broker := r.enter(l.Address, l.Name)
			open = append(open, pair{l.Name, client, broker})
		}
		for _, address := range addresses {
			if !listening[address] {
				wantRefused(t, address)
			}
		}
		for len(open) > 8 {
			i := rng.IntN(len(open))
			_ = open[i].client.Close()
			_ = open[i].broker.Close()
			if rec := r.record(); rec.Listener != rec.ClientID {
				t.Errorf("got listener %s for the client that came in on %s", rec.Listener, rec.ClientID)
			}
			open = append(open[:i], open[i+1:]...)
		}
		for _, p := range open {
			want[p.name]++
			wantPong(t, p.client, p.broker)
		}
		wantConnections(t, r.proxy, want)
	}
}

// Without a proxy that serves there is nothing to reconfigure.
func TestReconfigureStopped(t *testing.T) {
	t.Parallel()
	p, err := New(Options{Observer: newTeller(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	list := []Listener{{Name: "a", Address: "127.0.0.1:0", Placer: &fakePlacer{}}}
	if err := p.Reconfigure(list); !errors.Is(err, ErrStopped) {
		t.Errorf("before Start: got %v, want ErrStopped", err)
	}
	p.Start()
	if err := p.Reconfigure(list); err != nil {
		t.Errorf("after Start: got %v, want none", err)
	}
	at, _ := p.Addr("a")
	p.StopAccepting()
	if err := p.Reconfigure(list); !errors.Is(err, ErrStopped) {
		t.Errorf("after StopAccepting: got %v, want ErrStopped", err)
	}
	wantRefused(t, at.String())
	p.Close()
	if err := p.Reconfigure(list); !errors.Is(err, ErrStopped) {
		t.Errorf("after Close: got %v, want ErrStopped", err)
	}
}

// Reconfigure, the counters and Close may meet in any order.
func TestReconfigureWhileClosing(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		placer := &fakePlacer{}
		p, err := New(Options{Loops: 2, Listeners: []Listener{{Name: "a", Address: "127.0.0.1:0", Placer: placer}}, Observer: newTeller(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		p.Start()
		var all sync.WaitGroup
		for g := range 3 {
			all.Go(func() {
				for n := range 10 {
					list := []Listener{{Name: "a", Address: "127.0.0.1:0", Placer: placer, MaxConnections: n}, {Name: fmt.Sprint("b", g), Address: "127.0.0.1:0", Placer: placer}}
					if err := p.Reconfigure(list[n%2:]); err != nil && !errors.Is(err, ErrStopped) {
						t.Errorf("got %v, want none or ErrStopped", err)
					}
					p.Connections()
					p.Uses(placer)
					p.Addr("a")
				}
			})
		}
		time.Sleep(time.Duration(i) * 100 * time.Microsecond)
		p.StopAccepting()
		p.Close()
		all.Wait()
	}
}

// No descriptor stays behind, whether a list was taken over or not. (Not parallel: other tests' descriptors would
// count.)
func TestReconfigureLeaksNoDescriptor(t *testing.T) {
	r := newRig(t, rigOptions{loops: 3})
	more := func(n int) (list []Listener) {
		for i := range n {
			list = append(list, Listener{Name: fmt.Sprint("more-", i), Address: "127.0.0.1:0", Placer: r.placer})
		}
		return r.listeners(list...)
	}
	r.reconfigure(more(3)...)
	r.reconfigure(more(0)...)
	before := descriptors(t)
	for range 20 {
		r.reconfigure(more(3)...)
		if got, want := descriptors(t), before+3*3; got != want {
			t.Fatalf("got %d descriptors with three more listeners on three loops, want %d", got, want)
		}
		if err := r.proxy.Reconfigure(append(more(2), Listener{Name: "bad", Address: "192.0.2.1:0"})); err == nil {
			t.Fatal("got no error for an address of another host")
		}
		r.reconfigure(more(0)...)
		if got := descriptors(t); got != before {
			t.Fatalf("got %d descriptors, want %d as before", got, before)
		}
	}
	for _, l := range r.proxy.loops {
		if n := len(l.listeners); n > 8 {
			t.Errorf("got %d slots for listeners after 20 times three more, want those of the closed ones used again", n)
		}
	}
}

// When a loop cannot listen at the last moment, the others give back what they have, and nothing has changed. (Not
// parallel: it counts descriptors.)
func TestReconfigureTakesBackWhatItCan(t *testing.T) {
	r := newRig(t, rigOptions{loops: 3})
	client, broker := r.session()
	before := descriptors(t)
	c, err := r.proxy.Prepare(r.listeners(Listener{Name: "new", Address: "127.0.0.1:0", Placer: r.placer}))
	if err != nil {
		t.Fatal(err)
	}
	closeSocket(c.newcomers[0].fds[1])
	c.newcomers[0].fds[1] = -1 // loop 1 will find no socket there
	err = c.Apply()
	if err == nil || !strings.HasPrefix(err.Error(), "listener new: cannot listen on 127.0.0.1:0: bad file descriptor") {
		t.Errorf("got %v, want an error about the new listener", err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("got %d descriptors, want %d as before", after, before)
	}
	if _, ok := r.proxy.Addr("new"); ok {
		t.Error("got the new listener, want none")
	}
	wantPong(t, client, broker)
	r.session()
}
