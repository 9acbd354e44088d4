package proxy

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestConnectCutAnywhere sends CONNECT and a pipelined packet in two parts, cut at every offset, and
// once byte by byte: the broker gets the same bytes, and no connection before CONNECT is complete.
func TestConnectCutAnywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	opening := append(connect("cut-anywhere"), 0xc0, 0)
	size := len(connect("cut-anywhere"))
	for cut := 1; cut <= len(opening); cut++ {
		client := r.dial()
		write(t, client, opening[:cut])
		if cut < size {
			r.nobodyArrives(0)
		}
		if cut < len(opening) {
			write(t, client, opening[cut:])
		}
		broker := r.accept(0)
		expect(t, broker, opening)
		_ = client.Close()
		expectEOF(t, broker)
		_ = broker.Close()
		r.record()
	}
	client := r.dial()
	for _, b := range opening {
		write(t, client, []byte{b})
	}
	expect(t, r.accept(0), opening)
}

// nobodyArrives checks that no connection waits at the broker. The proxy may not have read what the
// client just sent, so this can only catch it being too early, not prove that it never is.
func (r *rig) nobodyArrives(broker int) {
	r.t.Helper()
	l := r.brokers[broker].(*net.TCPListener)
	_ = l.SetDeadline(time.Now().Add(2 * time.Millisecond))
	if _, err := l.Accept(); err == nil {
		r.t.Fatal("the broker got a connection before CONNECT was complete")
	}
}

// TestOpeningsThatAreRefused: each is closed without reaching a broker, and the record says why.
func TestOpeningsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, bytes string
		want        Refusal
		end         End
	}{
		{"http", "GET / HTTP/1.1\r\n\r\n", "http", EndProtocol},
		{"tls", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls", EndProtocol},
		{"proxy header", "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "proxy_header", EndProtocol},
		{"another packet", "\xc0\x00", "not_connect", EndProtocol},
		{"fifth length byte", "\x10\xff\xff\xff\xff\x7f", "length", EndProtocol},
		{"256 MiB", "\x10\xff\xff\xff\x7f", RefusedConnectSize, EndLimit},
		{"wrong name", "\x10\x10\x00\x04MQTX\x04\x02\x00\x3c\x00\x04abcd", "protocol_name", EndProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			client := r.dial()
			write(t, client, []byte(c.bytes))
			begin := time.Now()
			if n, err := client.Read(make([]byte, 1)); err == nil {
				t.Errorf("got %d bytes back, want none", n)
			}
			if took := time.Since(begin); took > 2*time.Second {
				t.Errorf("closed after %v, want at once", took)
			}
			rec := r.record()
			if rec.Refusal != c.want || rec.End != c.end || rec.Target.Backend != nil {
				t.Errorf("got refusal %q, end %v, backend %v, want %q, %v, none", rec.Refusal, rec.End, rec.Target.Backend, c.want, c.end)
			}
			r.nobodyArrives(0)
		})
	}
}

// TestConnectThatNeverEnds is closed at connect_timeout, however the bytes dribble in.
func TestConnectThatNeverEnds(t *testing.T) {
	t.Parallel()
	const timeout = 600 * time.Millisecond
	r := newRig(t, rigOptions{listener: Listener{ConnectTimeout: timeout}})
	client := r.dial()
	begin := time.Now()
	go func() {
		for _, b := range connect("a-name-that-is-long-enough-to-dribble-for-a-while") {
			if _, err := client.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	_, _ = client.Read(make([]byte, 1))
	if took := time.Since(begin); took < timeout || took > timeout+time.Second {
		t.Errorf("closed after %v, want %v", took, timeout)
	}
	if rec := r.record(); rec.End != EndTimeout || rec.Refusal != RefusedConnectTimeout {
		t.Errorf("got %v, %q, want timeout, %q", rec.End, rec.Refusal, RefusedConnectTimeout)
	}
}

// TestSessionOutlivesConnectTimeout: the classic bug of this field is a deadline that nobody clears.
func TestSessionOutlivesConnectTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 300 * time.Millisecond
	r := newRig(t, rigOptions{listener: Listener{ConnectTimeout: timeout}, backend: Backend{DialTimeout: timeout, FirstByteTimeout: timeout}})
	client, broker := r.session()
	time.Sleep(3 * timeout)
	write(t, client, []byte{0xc0, 0})
	expect(t, broker, []byte{0xc0, 0})
	write(t, broker, []byte{0xd0, 0})
	expect(t, client, []byte{0xd0, 0})
}

// TestNextCandidateGetsTheSameBytes: the first backend refuses the connection.
func TestNextCandidateGetsTheSameBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 3})
	_ = r.brokers[0].Close()
	_ = r.brokers[1].Close()
	opening := append(connect("failover"), 0xc0, 0)
	client := r.dial()
	write(t, client, opening)
	broker := r.accept(2)
	expect(t, broker, opening)
	_ = client.Close()
	rec := r.record()
	if rec.Attempts != 3 || rec.Target.Backend.Name != "c" {
		t.Errorf("got %d attempts and backend %s, want 3 and c", rec.Attempts, rec.Target.Backend.Name)
	}
	if got := r.placer.told(); len(got) != 3 || got[0] != Refused || got[1] != Refused || got[2] != Served {
		t.Errorf("got outcomes %v, want refused, refused, served", got)
	}
}

// TestDialThatHangs: a backend whose queue of connections is full answers nothing.
func TestDialThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{backend: Backend{DialTimeout: 300 * time.Millisecond}})
	r.placer.prepend(fullQueue(t))
	client := r.dial()
	write(t, client, connect("patient"))
	expect(t, r.accept(0), connect("patient"))
	if got := r.placer.told(); len(got) != 1 || got[0] != TimedOut {
		t.Errorf("got outcomes %v, want one timeout", got)
	}
}

// fullQueue is an address that swallows SYN packets: a listening socket whose queue is full.
func fullQueue(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := listenBacklog0()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSocket(fd) })
	at := localAddr(fd)
	for range 4 {
		c, err := net.DialTimeout("tcp", at.String(), 200*time.Millisecond)
		if err != nil {
			return at
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue does not fill up")
	return at
}

// TestSilentBrokerIsGivenUp: it takes the connection and never answers CONNECT.
func TestSilentBrokerIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{brokers: 2, backend: Backend{FirstByteTimeout: 300 * time.Millisecond}})
	client := r.dial()
	write(t, client, connect("c"))
	broker := r.accept(0)
	expect(t, broker, connect("c"))
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("got a byte, want the connection closed")
	}
	if rec := r.record(); rec.End != EndTimeout || rec.Refusal != RefusedFirstByte {
		t.Errorf("got %v, %q, want timeout, %q", rec.End, rec.Refusal, RefusedFirstByte)
	}
	if got := r.placer.told(); len(got) != 1 || got[0] != Stalled {
		t.Errorf("got outcomes %v, want stalled", got)
	}
	r.nobodyArrives(1) // the CONNECT must not reach a second broker
}

// TestClientThatLeavesWhileDialing gives its place back.
func TestClientThatLeavesWhileDialing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.placer.prepend(fullQueue(t))
	client := r.dial()
	write(t, client, connect("c"))
	for r.placer.held() == 0 {
		time.Sleep(time.Millisecond)
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	if rec := r.record(); rec.End != EndClient {
		t.Errorf("got end %v, want client", rec.End)
	}
	if got := r.placer.told(); len(got) != 1 || got[0] != ClientLeft {
		t.Errorf("got outcomes %v, want client_left", got)
	}
}

// TestNobodyThere closes without CONNACK, or with one when asked to.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for _, withConnack := range []bool{false, true} {
		r := newRig(t, rigOptions{listener: Listener{RefuseWithConnack: withConnack}})
		_ = r.brokers[0].Close()
		client := r.dial()
		write(t, client, connect("c"))
		if withConnack {
			expect(t, client, []byte{0x20, 2, 0, 3})
		}
		if n, _ := client.Read(make([]byte, 8)); n > 0 {
			t.Errorf("got %d bytes, want none", n)
		}
		if rec := r.record(); rec.Refusal != RefusedDialFailed {
			t.Errorf("got %q, want %q", rec.Refusal, RefusedDialFailed)
		}
	}
}

// TestConnectionLimit sheds what is too much and takes new clients when others have left.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: Listener{MaxConnections: 2}})
	first, _ := r.session()
	_, _ = r.session()
	third := r.dial()
	write(t, third, connect("third"))
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("the third client got an answer, want it closed")
	}
	if why := <-r.told.shed; why != RefusedConnections {
		t.Errorf("got %q, want %q", why, RefusedConnections)
	}
	_ = first.Close()
	r.record()
	_, _ = r.session()
}

// TestSessionsSpreadOverLoops: a new connection goes to the loop with distinctly fewer sessions.
func TestSessionsSpreadOverLoops(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 4})
	for range 40 {
		_, _ = r.session()
		time.Sleep(time.Duration(handOverPause)) // a storm is not balanced, see there
	}
	for _, l := range r.proxy.loops {
		if n := l.load.Load(); n < 6 || n > 14 {
			t.Errorf("got %d of 40 sessions on one of 4 loops, want about 10", n)
		}
	}
}

// TestAnswerIsReported with the code of CONNACK, also when it arrives in two parts.
func TestAnswerIsReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client := r.dial()
	write(t, client, connect("c"))
	broker := r.accept(0)
	expect(t, broker, connect("c"))
	for _, b := range []byte{0x20, 2, 0, 5} {
		write(t, broker, []byte{b})
	}
	expect(t, client, []byte{0x20, 2, 0, 5})
	a := <-r.told.answered
	if a.Code != 5 || a.Cluster != "cluster" || a.Backend != "a" || a.Version != 4 || a.ClientID != "c" {
		t.Errorf("got %+v, want code 5 for c from a in cluster, version 4", a)
	}
	if a.Took <= 0 || a.Took > a.After {
		t.Errorf("got %v of %v for the broker, want a part of it", a.Took, a.After)
	}
	_ = broker.Close()
	if rec := r.record(); rec.Connack != 5 || rec.End != EndBackend {
		t.Errorf("got connack %d and end %v, want 5 and backend", rec.Connack, rec.End)
	}
	if got := r.placer.told(); len(got) != 1 || got[0] != Rejected {
		t.Errorf("got outcomes %v, want rejected", got)
	}
}

// TestAnswerDoesNotCountTheClientsTime: the broker is not slow because a client dribbles its CONNECT.
func TestAnswerDoesNotCountTheClientsTime(t *testing.T) {
	t.Parallel()
	const pause = 300 * time.Millisecond
	r := newRig(t, rigOptions{})
	client := r.dial()
	write(t, client, connect("c")[:5])
	time.Sleep(pause)
	write(t, client, connect("c")[5:])
	broker := r.accept(0)
	expect(t, broker, connect("c"))
	write(t, broker, connack())
	if a := <-r.told.answered; a.After-a.Took < pause-10*time.Millisecond {
		t.Errorf("got %v of %v for the broker, want at least %v less", a.Took, a.After, pause)
	}
}
