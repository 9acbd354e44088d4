package proxy

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// publish is one PUBLISH with QoS 0 whose body has n bytes in all.
func publish(n int) []byte {
	b := []byte{0x30}
	for v := n; ; {
		digit := byte(v & 127)
		if v >>= 7; v > 0 {
			b = append(b, digit|128)
			continue
		}
		b = append(b, digit)
		break
	}
	body := make([]byte, n)
	rng := rand.New(rand.NewPCG(uint64(n), 9))
	for i := range body {
		body[i] = byte(rng.Uint32())
	}
	return append(b, body...)
}

// TestBytesAreExactBothWaysAtOnce sends packets of all sizes in chunks of all sizes, in both directions
// at once, and compares every byte.
func TestBytesAreExactBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	for _, loops := range []int{1, 2} {
		r := newRig(t, rigOptions{loops: loops})
		client, broker := r.session()
		var stream []byte
		for _, n := range []int{2, 127, 128, 5000, 16383, 16384, 100_000, 5 << 20, 3, 65_536} {
			stream = append(stream, publish(n)...)
		}
		var all sync.WaitGroup
		for i, pair := range [][2]*net.TCPConn{{client, broker}, {broker, client}} {
			all.Go(func() { writeChunks(t, pair[0], stream, rand.New(rand.NewPCG(uint64(i), 1))) })
			all.Go(func() {
				got := make([]byte, len(stream))
				if n, err := readFull(pair[1], got); err != nil {
					t.Errorf("got %d of %d bytes: %v", n, len(stream), err)
				}
				if sha256.Sum256(got) != sha256.Sum256(stream) {
					t.Error("the bytes are not the ones that were sent")
				}
			})
		}
		all.Wait()
		_ = client.Close()
		rec := r.record()
		want := [2]uint64{uint64(len(stream) + len(connect("c"))), uint64(len(stream) + len(connack()))}
		if rec.Bytes != want {
			t.Errorf("got %v bytes in the record, want %v", rec.Bytes, want)
		}
		if want := [2]uint64{11, 11}; rec.Packets != want {
			t.Errorf("got %v packets in the record, want %v", rec.Packets, want)
		}
	}
}

func writeChunks(t *testing.T, c net.Conn, b []byte, rng *rand.Rand) {
	t.Helper()
	for len(b) > 0 {
		n := min(len(b), 1+rng.IntN(1<<rng.IntN(20)))
		if _, err := c.Write(b[:n]); err != nil {
			t.Errorf("write: %v", err)
			return
		}
		b = b[n:]
	}
}

// TestSlowReaderStopsTheSender fills both directions at once while nobody reads: the proxy keeps a
// bounded number of bytes, then everything arrives.
func TestSlowReaderStopsTheSender(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	stream := publish(32 << 20)
	var writers sync.WaitGroup
	writers.Go(func() { writeChunks(t, client, stream, rand.New(rand.NewPCG(1, 1))) })
	writers.Go(func() { writeChunks(t, broker, stream, rand.New(rand.NewPCG(2, 2))) })
	// The writers are stuck once the proxy's counters stand still.
	for last := uint64(0); ; {
		time.Sleep(3 * tick) // the counters are published every tick
		s := r.proxy.Stats()
		if moved := s.Bytes[Up] + s.Bytes[Down]; moved == last && moved > 0 {
			break
		} else {
			last = moved
		}
	}
	var lent int64
	r.proxy.everywhere(func(l *loop) { lent += l.pool.lent })
	if lent == 0 || lent > 2*readSize {
		t.Errorf("got %d bytes held for a session that is full both ways, want 1 to %d", lent, 2*readSize)
	}
	var readers sync.WaitGroup
	for _, c := range []net.Conn{client, broker} {
		readers.Go(func() {
			got := make([]byte, len(stream))
			if n, err := readFull(c, got); err != nil || !bytes.Equal(got, stream) {
				t.Errorf("got %d bytes and %v, want all %d unchanged", n, err, len(stream))
			}
		})
	}
	readers.Wait()
	writers.Wait()
}

// TestFinIsPassedOnAfterTheLastByte half-closes each side in turn: the other gets every byte, then FIN,
// and can still answer.
func TestFinIsPassedOnAfterTheLastByte(t *testing.T) {
	t.Parallel()
	for _, who := range []End{EndClient, EndBackend} {
		r := newRig(t, rigOptions{})
		near, far := r.session()
		if who == EndBackend {
			near, far = far, near
		}
		stream := publish(1 << 20)
		go func() {
			_, _ = near.Write(stream)
			_ = near.CloseWrite()
		}()
		got, err := io.ReadAll(far)
		if err != nil || !bytes.Equal(got, stream) {
			t.Fatalf("%v: got %d bytes and %v, want %d and FIN", who, len(got), err, len(stream))
		}
		write(t, far, []byte{0xd0, 0}) // an answer after the other's FIN
		expect(t, near, []byte{0xd0, 0})
		_ = far.CloseWrite()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("%v: got %v, want EOF", who, err)
		}
		if rec := r.record(); rec.End != who {
			t.Errorf("got end %v, want %v", rec.End, who)
		}
	}
}

// TestHalfOpenSessionEndsByItself: one side has ended, the other never does.
func TestHalfOpenSessionEndsByItself(t *testing.T) {
	t.Parallel()
	for _, who := range []End{EndClient, EndBackend} {
		t.Run(who.String(), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			near, far := r.session()
			if who == EndBackend {
				near, far = far, near
			}
			begin := time.Now()
			_ = near.CloseWrite()
			expectEOF(t, far)
			rec := r.record()
			if took := time.Since(begin); took < closeGrace-tick || took > closeGrace+2*time.Second {
				t.Errorf("got the end after %v, want %v", took, closeGrace)
			}
			if rec.End != who {
				t.Errorf("got end %v, want %v", rec.End, who)
			}
		})
	}
}

// TestResetIsPassedOnAsReset: an abnormal end stays one.
func TestResetIsPassedOnAsReset(t *testing.T) {
	t.Parallel()
	for _, who := range []End{EndClient, EndBackend} {
		r := newRig(t, rigOptions{})
		near, far := r.session()
		if who == EndBackend {
			near, far = far, near
		}
		write(t, near, publish(1000)[:500]) // in the middle of a packet
		expect(t, far, publish(1000)[:500])
		_ = near.SetLinger(0)
		_ = near.Close()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v: got %v, want ECONNRESET", who, err)
		}
		if rec := r.record(); rec.End != who {
			t.Errorf("got end %v, want %v", rec.End, who)
		}
	}
}

// TestResetAfterAnyByte: whenever a side vanishes, in whatever packet, the other one is told so, and nothing stays
// behind. (Not parallel: other tests' descriptors would count.)
func TestResetAfterAnyByte(t *testing.T) {
	r := newRig(t, rigOptions{loops: 2})
	stream := publish(300_000)
	reset := func(who End, k int) {
		near, far := r.session()
		if who == EndBackend {
			near, far = far, near
		}
		if k > 0 {
			write(t, near, stream[:k])
			expect(t, far, stream[:k])
		}
		write(t, far, stream[:7]) // the other direction is in a packet as well
		expect(t, near, stream[:7])
		_ = near.SetLinger(0)
		_ = near.Close()
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%v, %d bytes: got %v, want ECONNRESET", who, k, err)
		}
		_ = far.Close()
		if rec := r.record(); rec.End != who {
			t.Errorf("%v, %d bytes: got end %v", who, k, rec.End)
		}
	}
	reset(EndClient, 1) // what the runtime opens once and keeps
	before := descriptors(t)
	for _, who := range []End{EndClient, EndBackend} {
		for _, k := range []int{0, 1, 2, 3, 4, 5, 1000, 65_536, 131_072, len(stream) - 1, len(stream)} {
			reset(who, k)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("got %d descriptors, want %d", after, before)
	}
	if s := r.proxy.Stats(); s.Sessions != 0 {
		t.Errorf("got %d sessions left, want none", s.Sessions)
	}
	r.proxy.everywhere(func(l *loop) {
		if l.pool.lent != 0 || l.sessions.open != 0 {
			t.Errorf("got %d bytes of buffers and %d sessions left, want none", l.pool.lent, l.sessions.open)
		}
	})
}

// TestLastWordsBeforeAResetArrive: what a side wrote before it vanished is delivered, also when the
// proxy learns of the end by writing to it.
func TestLastWordsBeforeAResetArrive(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	write(t, client, []byte{0xc0, 0})
	// The broker does not read it, says something and closes: its kernel sends RST.
	time.Sleep(20 * time.Millisecond) // let the unread byte arrive; too early makes the test weaker, not red
	write(t, broker, []byte{0xe0, 2, 0x8b, 0})
	_ = broker.Close()
	expect(t, client, []byte{0xe0, 2, 0x8b, 0})
	if rec := r.record(); rec.End != EndBackend {
		t.Errorf("got end %v, want backend", rec.End)
	}
}

// TestClientThatNeverReadsDoesNotHoldOthersUp floods one client that never reads, while another plays
// ping-pong on the same loop.
func TestClientThatNeverReadsDoesNotHoldOthersUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 1})
	_, flooded := r.session()
	client, broker := r.session()
	stop := make(chan struct{})
	var flood sync.WaitGroup
	flood.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = flooded.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
				_, _ = flooded.Write(make([]byte, 1<<20))
			}
		}
	})
	for range 200 {
		write(t, client, publish(64))
		expect(t, broker, publish(64))
		write(t, broker, publish(64))
		expect(t, client, publish(64))
	}
	close(stop)
	flood.Wait()
}

func expectEOF(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("got %d bytes and %v, want EOF", n, err)
	}
}
