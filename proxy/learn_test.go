package proxy

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// A pupil is a Placer with one backend that wants to learn.
type pupil struct {
	fakePlacer
	known    string      // the group of every client that comes
	lessons  chan string // what Subscribed was told
	released chan Target // what Release was given
}

func (p *pupil) Place(r Request) (Target, error) {
	t, err := p.fakePlacer.Place(r)
	t.Learn = true
	t.Reason.Group, t.Learned = p.known, p.known != ""
	return t, err
}

func (p *pupil) Subscribed(clientID string, t Target, groups []string) Target {
	p.lessons <- clientID + ": " + strings.Join(groups, ",")
	t.Learned, t.Reason.Group = true, strings.Join(groups, "+")
	return t
}

func (p *pupil) Release(clientID string, t Target, o Outcome) {
	p.fakePlacer.Release(clientID, t, o)
	p.released <- t
}

// A school is a proxy whose Placer learns, in front of a broker that the test plays.
type school struct {
	*pupil
	proxy  *Proxy
	broker net.Listener
	addr   string
}

func newSchool(t *testing.T, known string) *school {
	t.Helper()
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &pupil{known: known, lessons: make(chan string, 4096), released: make(chan Target, 4096)}
	p.backends = []*Backend{{Cluster: "cluster", Name: "a", Address: netip.MustParseAddrPort(broker.Addr().String()), DialTimeout: patience}}
	made, err := New(Options{
		Listeners: []Listener{{Name: "test", Address: "127.0.0.1:0", Placer: p}}, Loops: 1, Observer: mute{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := made.Addr("test")
	made.Start()
	t.Cleanup(func() {
		made.Close()
		_ = broker.Close()
	})
	return &school{pupil: p, proxy: made, broker: broker, addr: at.String()}
}

// enter connects a client that sends this, and returns its connection and the broker's, which has got the bytes.
func (s *school) enter(t *testing.T, opening []byte) (client, broker net.Conn) {
	t.Helper()
	client, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = client.SetDeadline(time.Now().Add(patience))
	write(t, client, opening)
	if broker, err = s.broker.Accept(); err != nil {
		t.Fatal(err)
	}
	_ = broker.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _, _ = client.Close(), broker.Close() })
	expect(t, broker, opening)
	return client, broker
}

// learns waits for what the Placer is told.
func (s *school) learns(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-s.lessons:
		if got != want {
			t.Fatalf("the Placer was told %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("the Placer was told nothing, want %q", want)
	}
}

// leaves ends a session on both sides and returns what Release was given.
func (s *school) leaves(t *testing.T, client, broker net.Conn) Target {
	t.Helper()
	_, _ = client.Close(), broker.Close()
	return s.gone(t)
}

func (s *school) gone(t *testing.T) Target {
	t.Helper()
	select {
	case target := <-s.released:
		if len(s.lessons) > 0 {
			t.Fatalf("the Placer was told %q too", <-s.lessons)
		}
		return target
	case <-time.After(patience):
		t.Fatal("no place was released")
		return Target{}
	}
}

// through sends b in two writes, the second when the first has come through, and wants it unchanged.
func through(t *testing.T, from, to net.Conn, b []byte, cut int) {
	t.Helper()
	for _, part := range [][]byte{b[:cut], b[cut:]} {
		if len(part) > 0 {
			write(t, from, part)
			expect(t, to, part)
		}
	}
}

// Packets of MQTT 3.1.1 by hand.
var (
	subscribed   = []byte("\x82\x19\x00\x01\x00\x01x\x00\x00\x10$share/workers/t\x01")
	granted      = []byte("\x90\x04\x00\x01\x00\x01")
	unsubscribed = []byte("\xa2\x14\x00\x02\x00\x10$share/workers/t")
	confirmed    = []byte("\xb0\x02\x00\x02")
)

// Wherever TCP cuts, the bytes pass as they are, and the groups are known when the broker has agreed.
func TestLearnFromPacketsCutAnywhere(t *testing.T) {
	t.Parallel()
	s := newSchool(t, "")
	for cut := range max(len(subscribed), len(unsubscribed)) + 1 {
		id := fmt.Sprint("c", cut)
		client, broker := s.enter(t, connect(id))
		through(t, broker, client, connack(), cut%4)
		through(t, client, broker, subscribed, min(cut, len(subscribed)))
		through(t, broker, client, granted, min(cut, len(granted)))
		s.learns(t, id+": workers")
		through(t, client, broker, publish(100), 50)
		through(t, client, broker, unsubscribed, min(cut, len(unsubscribed)))
		through(t, broker, client, confirmed, min(cut, len(confirmed)))
		s.learns(t, id+": ")
		if target := s.leaves(t, client, broker); target.Reason.Group != "" {
			t.Fatalf("cut at %d: released as of group %q, want none", cut, target.Reason.Group)
		}
	}
}

// What comes right behind CONNECT counts, as well as what is cut there.
func TestLearnFromPipelinedPackets(t *testing.T) {
	t.Parallel()
	s := newSchool(t, "")
	for cut := range len(subscribed) + 1 {
		id := fmt.Sprint("c", cut)
		client, broker := s.enter(t, slices.Concat(connect(id), subscribed[:cut]))
		if cut < len(subscribed) {
			through(t, client, broker, subscribed[cut:], 0)
		}
		through(t, broker, client, slices.Concat(connack(), granted), cut%9)
		s.learns(t, id+": workers")
		if target := s.leaves(t, client, broker); target.Reason.Group != "workers" || !target.Learned {
			t.Fatalf("cut at %d: released as %+v, want it to be of group workers", cut, target)
		}
	}
}

// The next candidate learns the same as the first one would have.
func TestLearnAfterAFailedAttempt(t *testing.T) {
	t.Parallel()
	s := newSchool(t, "")
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	s.prepend(netip.MustParseAddrPort(closed.Addr().String()))
	client, broker := s.enter(t, slices.Concat(connect("c"), subscribed))
	if target := s.gone(t); target.Backend.Name != "first" {
		t.Fatalf("got a place on %s released, want first", target.Backend.Name)
	}
	through(t, broker, client, slices.Concat(connack(), granted), 0)
	s.learns(t, "c: workers")
}

// A refused subscription is none.
func TestNothingIsLearnedFromARefusal(t *testing.T) {
	t.Parallel()
	s := newSchool(t, "")
	client, broker := s.enter(t, connect("c"))
	through(t, broker, client, connack(), 0)
	through(t, client, broker, subscribed, 0)
	through(t, broker, client, []byte("\x90\x04\x00\x01\x00\x80"), 0)
	if target := s.leaves(t, client, broker); target.Reason.Group != "" {
		t.Errorf("released as of group %q, want none", target.Reason.Group)
	}
}

// persistent is a CONNECT without clean session.
func persistent(id string) []byte {
	b := connect(id)
	b[9] = 0
	return b
}

// A session that the broker has kept consumes what it did, without saying so again.
func TestResumedSessionsKeepTheirGroup(t *testing.T) {
	t.Parallel()
	s := newSchool(t, "workers")
	for _, c := range []struct {
		connect []byte
		present byte
		told    string
	}{
		{persistent("c"), 1, "c: "},
		{persistent("c"), 0, ""},
		{connect("c"), 0, ""},
	} {
		client, broker := s.enter(t, c.connect)
		through(t, broker, client, []byte{0x20, 2, c.present, 0}, 1)
		through(t, client, broker, unsubscribed, 0)
		through(t, broker, client, confirmed, 0)
		if c.told != "" {
			s.learns(t, c.told)
		}
		s.leaves(t, client, broker)
	}
}

// A client that came as a member and consumes nothing for a minute is forgotten, and not sooner.
func TestRememberedMembersMustSaySo(t *testing.T) {
	t.Parallel()
	for lasted, told := range map[time.Duration]bool{confirmation - 1: false, confirmation: true} {
		p := &pupil{lessons: make(chan string, 1)}
		l := &loop{now: int64(lasted)}
		s := &session{listener: &listener{Listener: Listener{Placer: p}}, state: stateRelaying, clientID: "c"}
		s.target.Learn, s.target.Learned = true, true
		s.target.Reason.Group = "workers"
		l.unlearn(s)
		if got := len(p.lessons) > 0; got != told {
			t.Errorf("after %v: told %t, want %t", lasted, got, told)
		}
	}
}

// Sessions that consume nothing shared keep nothing, whatever else they subscribe to.
func TestOtherSessionsKeepNothing(t *testing.T) {
	t.Parallel()
	s := newSchool(t, "")
	client, broker := s.enter(t, connect("c"))
	through(t, broker, client, connack(), 0)
	other := []byte("\x82\x0b\x00\x01\x00\x06$share\x01\xc0\x00")
	held := func() (held int) {
		s.proxy.visit(s.proxy.loops[0], func(l *loop, from, end uint32) bool {
			for i := from; i < end; i++ {
				if l.sessions.at(i).shares != nil {
					held++
				}
			}
			return true
		})
		return held
	}
	for cut := range len(other) {
		through(t, client, broker, other, cut)
		through(t, broker, client, []byte("\x90\x03\x00\x01\x00"), cut%5)
		if n := held(); n > 0 {
			t.Fatalf("cut at %d: %d sessions keep something, want none", cut, n)
		}
	}
	through(t, client, broker, subscribed, 0)
	if n := held(); n != 1 {
		t.Errorf("%d sessions keep something, want the one that waits for its answer", n)
	}
}

// BenchmarkFollow is what it costs to follow a message of a client, with and without looking for groups.
func BenchmarkFollow(b *testing.B) {
	for _, learn := range []bool{false, true} {
		for _, shared := range []bool{false, true} {
			for _, each := range []int{1, 20} {
				if shared && !learn {
					continue
				}
				b.Run(fmt.Sprintf("learn=%t/shared=%t/messages=%d", learn, shared, each), func(b *testing.B) {
					l, s := &loop{}, &session{listener: &listener{Listener: Listener{Placer: &pupil{lessons: make(chan string, 1)}}}, version: 4}
					s.target.Learn = learn
					l.follow(s, Up, connect("c"))
					if shared {
						l.follow(s, Up, subscribed)
						s.answered = true
						l.follow(s, Down, granted)
						if s.shares == nil {
							b.Fatal("nothing was learned")
						}
					}
					chunk := slices.Repeat(publish(60), each)
					b.ReportAllocs()
					for b.Loop() {
						l.follow(s, Up, chunk)
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(each), "ns/message")
				})
			}
		}
	}
}

var _ Learner = (*pupil)(nil)
