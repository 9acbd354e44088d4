package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// hold stops all loops until the returned function is called.
func (r *rig) hold() (release func()) {
	gate := make(chan struct{})
	var held sync.WaitGroup
	for _, l := range r.proxy.loops {
		held.Add(1)
		l.do(func(*loop) { held.Done(); <-gate })
	}
	held.Wait()
	return sync.OnceFunc(func() { close(gate) })
}

// StopAccepting serves the clients that wait in the queues of the listening sockets, and nobody after them.
func TestStopAcceptingServesTheQueue(t *testing.T) {
	t.Parallel()
	const waiting = 30
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	release := r.hold()
	defer release()
	for i := range waiting {
		write(t, r.dial(), connect(fmt.Sprint("waiting-", i)))
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); r.proxy.StopAccepting() }()
	release()
	<-stopped
	if c, err := net.Dial("tcp", r.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got connection %v and error %v, want it refused", c, err)
	}
	for range waiting {
		write(t, r.accept(0), connack())
	}
	for range waiting + 1 {
		select {
		case <-r.told.answered:
		case <-time.After(patience):
			t.Fatal("a client that waited in the queue was not served")
		}
	}
	// Who was there before goes on as if nothing had happened.
	write(t, client, []byte{0xc0, 0})
	expect(t, broker, []byte{0xc0, 0})
	r.proxy.StopAccepting() // once more does no harm
	if got := r.proxy.Stats().Sessions; got != waiting+1 {
		t.Errorf("got %d sessions, want %d", got, waiting+1)
	}
}

// Drain ends all sessions: the broker gets every byte and FIN, then the client gets every byte and FIN.
func TestDrainDeliversEveryByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	up, down := publish(300_000), publish(200_000)
	var all sync.WaitGroup
	for range 20 {
		client, broker := r.session()
		all.Go(func() {
			_, _ = client.Write(up)
			if b, err := io.ReadAll(client); err != nil || !slices.Equal(b, down) {
				t.Errorf("got %d bytes and error %v at the client, want %d", len(b), err, len(down))
			}
			_ = client.Close()
		})
		all.Go(func() {
			b := make([]byte, len(up))
			if n, err := readFull(broker, b); err != nil || !slices.Equal(b, up) {
				t.Errorf("got %d bytes and error %v at the broker, want %d", n, err, len(up))
			}
			expectEOF(t, broker)
			_, _ = broker.Write(down) // the last words, after the client's FIN
			_ = broker.Close()
		})
	}
	for r.proxy.Stats().Bytes[Up] < 20*uint64(len(up)) {
		time.Sleep(time.Millisecond)
	}
	if err := r.proxy.Drain(t.Context(), DrainOptions{Over: 300 * time.Millisecond}); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	all.Wait()
	for range 20 {
		if rec := r.record(); rec.End != EndShutdown || rec.Refusal != "" {
			t.Errorf("got end %v, refusal %q, want shutdown and none", rec.End, rec.Refusal)
		}
	}
}

// A client that goes on sending while its session is drained gets its last bytes all the same.
func TestDrainWhileTheClientSends(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	drained := make(chan error, 1)
	go func() { drained <- r.proxy.Drain(context.Background(), DrainOptions{}) }()
	expectEOF(t, broker)
	write(t, client, publish(5000)) // nobody will read this
	down := publish(2 << 20)
	go func() {
		_, _ = broker.Write(down)
		_ = broker.Close()
	}()
	time.Sleep(200 * time.Millisecond) // the client is slow: most of it waits in the kernel by now
	got, err := io.ReadAll(client)
	if len(got) != len(down) {
		t.Errorf("got %d bytes and error %v at the client, want all %d", len(got), err, len(down))
	}
	_ = client.Close()
	if err := <-drained; err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// Drain is as gentle as an eviction, and says as much as it is told to.
func TestDrainSaysGoodbye(t *testing.T) {
	t.Parallel()
	for _, o := range []DrainOptions{{}, {Suppress: true, Notify: 0x8b, Text: "stop"}} {
		r := newRig(t, rigOptions{})
		client, broker := r.join(connect5(mqttparse.ConnectOptions{WillTopic: "t"}), connack5())
		write(t, client, subscribe) // not answered yet: there is something to wait for
		expect(t, broker, subscribe)
		drained := make(chan error, 1)
		go func() { drained <- r.proxy.Drain(context.Background(), o) }()
		r.waitForStage(awaitQuiet)
		write(t, broker, suback)
		expect(t, client, suback)
		var up, down []byte
		if o.Suppress {
			up, down = bye, append([]byte{0xe0, 9, 0x8b, 7, 0x1f, 0, 4}, "stop"...)
		}
		if got := read(t, broker); !slices.Equal(got, up) {
			t.Errorf("%+v: got %x at the broker, want %x", o, got, up)
		}
		_ = broker.Close()
		if got := read(t, client); !slices.Equal(got, down) {
			t.Errorf("%+v: got %x at the client, want %x", o, got, down)
		}
		_ = client.Close()
		if err := <-drained; err != nil {
			t.Errorf("got error %v, want none", err)
		}
		if rec := r.record(); rec.End != EndShutdown || rec.Moment != MomentQuiet {
			t.Errorf("got end %v at moment %q, want shutdown at a quiet one", rec.End, rec.Moment)
		}
	}
}

// Drain does not wait long for those that are never quiet, nor for those that somebody else evicts already, nor for
// those whom no broker has answered.
func TestDrainForces(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	waiting := r.dial()
	write(t, waiting, connect("waiting"))
	unanswered := r.accept(0)
	expect(t, unanswered, connect("waiting"))
	closeWithPeer(waiting, unanswered)
	var kept keeper
	for i := range 2 {
		client, broker := r.session()
		write(t, client, publish(100)[:50])
		expect(t, broker, publish(100)[:50])
		if i == 0 {
			kept = r.evict(Eviction{})
		}
		closeWithPeer(client, broker)
	}
	began := time.Now()
	if err := r.proxy.Drain(t.Context(), DrainOptions{}); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	if took := time.Since(began); took < 2*hurriedTime-2*tick || took > 6*time.Second {
		t.Errorf("got the end after %v, want it after 2s", took)
	}
	ends := make(map[End]int)
	for range 3 {
		rec := r.record()
		ends[rec.End]++
		if rec.Moment != MomentForced {
			t.Errorf("got moment %q of %q, want forced", rec.Moment, rec.ClientID)
		}
	}
	if ends[EndShutdown] != 2 || ends[EndEvicted] != 1 || len(kept) != 0 {
		t.Errorf("got ends %v and %d kept, want two by shutdown, one evicted, none kept", ends, len(kept))
	}
}

// closeWithPeer makes both ends close when the other has closed, as clients and brokers do.
func closeWithPeer(conns ...*net.TCPConn) {
	for _, c := range conns {
		go func() {
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}()
	}
}

// Sessions end evenly over the given time: neither all at once nor late.
func TestDrainKeepsThePace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sessions, loops int }{{150, 1}, {150, 2}, {5, 1}, {8, 4}} {
		t.Run(fmt.Sprintf("sessions=%d/loops=%d", c.sessions, c.loops), func(t *testing.T) {
			t.Parallel()
			const over = time.Second
			r := newRig(t, rigOptions{loops: c.loops})
			for range c.sessions {
				client, broker := r.session()
				closeWithPeer(client, broker)
			}
			begin := time.Now()
			var after []time.Duration
			var all sync.WaitGroup
			all.Go(func() {
				for range c.sessions {
					r.record()
					after = append(after, time.Since(begin))
				}
			})
			if err := r.proxy.Drain(t.Context(), DrainOptions{Over: over}); err != nil {
				t.Errorf("got error %v, want none", err)
			}
			all.Wait()
			if half, end := after[len(after)/2], after[len(after)-1]; half < over/4 || end < over*7/10 {
				t.Errorf("got half of the sessions ended after %v, all after %v, want about %v and %v", half, end, over/2, over)
			}
		})
	}
}

// Drain gives up when its context ends; what is left goes on until Close.
func TestDrainGivesUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for range 40 {
		client, broker := r.session()
		closeWithPeer(client, broker)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.proxy.Drain(ctx, DrainOptions{Over: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v, want the deadline of the context", err)
	}
	if got := r.proxy.Stats().Sessions; got < 20 || got > 39 {
		t.Errorf("got %d of 40 sessions left, want most but not all", got)
	}
}

// Without sessions there is nothing to wait for, and a client that has not said who it is, is sent away.
func TestDrainOfNearlyNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	begin := time.Now()
	if err := r.proxy.Drain(t.Context(), DrainOptions{Over: time.Hour}); err != nil || time.Since(begin) > patience/2 {
		t.Errorf("without sessions: got error %v after %v, want none at once", err, time.Since(begin))
	}
	client := r.dial()
	write(t, client, connect("half")[:5])
	for r.proxy.Stats().Sessions == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := r.proxy.Drain(t.Context(), DrainOptions{}); err != nil {
		t.Errorf("got error %v, want none", err)
	}
	if rec := r.record(); rec.End != EndShutdown || rec.Refusal != RefusedShutdown {
		t.Errorf("got end %v, refusal %q, want shutdown", rec.End, rec.Refusal)
	}
}
