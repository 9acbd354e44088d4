//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A soak is one mqttlb between clients that send messages of their own and brokers that send them back.
type soak struct {
	t        *testing.T
	lb       *lb
	set      settings
	names    []string
	brokers  []*soakBroker
	list     *listFile
	exporter *exporter

	faults  map[string]func()
	done    map[string]int
	undoing []undoing
	pending map[string]bool

	clients sync.WaitGroup
	resets  atomic.Int64 // connections that clients have to reset
	here    atomic.Int64
	quiet   atomic.Bool // nothing more is sent
	stopped atomic.Bool

	mu    sync.Mutex
	tally soakTally
}

type undoing struct {
	what string
	at   time.Time
	undo func()
}

type soakTally struct {
	sessions, messages, hit, moved, turnedAway int
	wrong                                      []string
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	k := &soak{t: t, done: make(map[string]int), pending: make(map[string]bool)}
	names, port := hosts(t, 3)
	k.names = names
	load := make(map[string]float64)
	for _, name := range names {
		b := &soakBroker{t: t, name: name, address: hostPort(name, port), guests: make(map[int]*soakGuest)}
		b.awake = sync.NewCond(&b.mu)
		b.open()
		t.Cleanup(b.kill)
		k.brokers, load[name] = append(k.brokers, b), 0.3
	}
	k.list, k.exporter = newListFile(t), newExporter(t, load)
	k.list.list(names...)
	k.set = settings{discovery: k.list.source(port), log: "{level: warn, clients: false}", cluster: k.cluster(100)}
	quiet := k.set
	quiet.log = quietly // startLB waits for a line of level info
	k.lb = startLB(t, quiet)
	k.lb.reach(t, patience, "ready", names...)
	k.faults = k.soakFaults()
	return k
}

// cluster is YAML of the cluster, with this pace of moves.
func (k *soak) cluster(rate int) string {
	return "health: {interval: 1s, timeout: 1s, rise: 1}\nsettle: 0s\nramp: 0s\nlimits: {first_byte_timeout: 2s}\n" +
		k.exporter.source("busy") + moving(rate, 50)
}

func (k *soak) present() int { return int(k.here.Load()) }

func (k *soak) note(f func(*soakTally)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.tally)
}

// visit is the life of a client: it comes again whenever it is cut.
func (k *soak) visit(number int) {
	for turn := 0; ; turn++ {
		if k.session(number, turn) {
			return
		}
		time.Sleep(50*time.Millisecond + rand.N(200*time.Millisecond))
	}
}

// session is one connection of a client. It reports whether the client has done all that it wanted.
func (k *soak) session(number, turn int) (finished bool) {
	id := fmt.Sprint("soak-", number)
	c, err := net.DialTimeout("tcp", k.lb.address, patience)
	if err != nil {
		k.note(func(s *soakTally) { s.turnedAway++ })
		return false
	}
	defer c.Close()
	broker, guest, ok := k.arrive(c, opening{id: id, version: byte(v311 + number%2)})
	if !ok {
		k.note(func(s *soakTally) { s.turnedAway++ })
		return false
	}
	k.note(func(s *soakTally) { s.sessions++ })
	k.here.Add(1)
	defer k.here.Add(-1)

	letter := soakLetter(number, turn)
	var sent atomic.Int64
	var last atomic.Bool // sent does not grow any more
	var selfMade atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer last.Store(true)
		for n := 0; !k.quiet.Load(); n++ {
			if _, err := c.Write(letter(n)); err != nil {
				return
			}
			sent.Store(int64(n + 1))
			select {
			case <-ended:
				return
			case <-time.After(100*time.Millisecond + rand.N(600*time.Millisecond)):
			}
			if left := k.resets.Load(); left > 0 && k.resets.CompareAndSwap(left, left-1) {
				selfMade.Store(true)
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
				return
			}
		}
	}()
	defer close(ended)

	received, whole := int64(0), 0
	for n := 0; ; n++ {
		want := letter(n)
		got := make([]byte, len(want))
		for { // until the message is here, or there will be none
			if last.Load() && k.quiet.Load() && int64(n) >= sent.Load() {
				return true
			}
			_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err = io.ReadFull(c, got[:1]); !isTimeout(err) {
				break
			}
		}
		read := 0
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			read, err = io.ReadFull(c, got[1:])
			read++
		}
		received += int64(read)
		if !bytes.Equal(got[:read], want[:read]) {
			k.wrong("%s, message %d: what came back is not what was sent", id, n)
			return false
		}
		if err != nil {
			k.ended(id, broker, guest, received, err, selfMade.Load())
			return false
		}
		whole++
		k.note(func(s *soakTally) { s.messages++ })
	}
}

// arrive sends CONNECT and learns from the first message which broker has taken the client in.
func (k *soak) arrive(c net.Conn, o opening) (*soakBroker, *soakGuest, bool) {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(o.bytes()); err != nil {
		return nil, nil, false
	}
	if answer, err := readPacket(c); err != nil || !bytes.Equal(answer, connack(o.version, 0)) {
		return nil, nil, false
	}
	hello, err := readPacket(c)
	if err != nil {
		return nil, nil, false
	}
	var name string
	var number int
	if _, err := fmt.Sscanf(string(hello[len(publish("", nil)):]), "%s %d", &name, &number); err != nil {
		k.wrong("%s: the first message is %.64q", o.id, hello)
		return nil, nil, false
	}
	_ = c.SetDeadline(time.Time{})
	for _, b := range k.brokers {
		if b.name == name {
			return b, b.guest(number), true
		}
	}
	return nil, nil, false
}

// ended judges the end of a connection.
func (k *soak) ended(id string, b *soakBroker, g *soakGuest, received int64, err error, selfMade bool) {
	if selfMade || g.hit.Load() {
		k.note(func(s *soakTally) { s.hit++ })
		return
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		if b.stoppedLately() {
			k.note(func(s *soakTally) { s.hit++ }) // it was moved, and the broker did not answer
			return
		}
		k.wrong("%s on broker %s: the connection has ended with %v, and nobody has hit it", id, b.name, err)
		return
	}
	k.note(func(s *soakTally) { s.moved++ })
	select {
	case <-g.gone:
	case <-time.After(patience):
		k.wrong("%s: the connection has ended for the client, and not for broker %s", id, b.name)
		return
	}
	if returned := g.returned.Load(); returned != received && !b.stoppedLately() {
		k.wrong("%s: broker %s has sent %d bytes back and the client has got %d", id, b.name, returned, received)
	}
}

func (k *soak) wrong(format string, args ...any) {
	k.note(func(s *soakTally) { s.wrong = append(s.wrong, fmt.Sprintf(format, args...)) })
}

// soakLetter returns the messages of one connection of a client by number: they can be made again, so that nothing is
// kept to compare with.
func soakLetter(client, turn int) func(n int) []byte {
	return func(n int) []byte {
		r := rand.New(rand.NewPCG(uint64(client)<<32|uint64(turn), uint64(n)))
		payload := make([]byte, 1+r.IntN(600)*(1+7*(r.IntN(20)/19))) // now and then a long one
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		return publish("soak", payload)
	}
}
