package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A Listener is an address on which clients arrive.
type Listener struct {
	Name string
	// Address is host:port; an empty host means all addresses of both families, port 0 any free port.
	Address string
	// Socket is the descriptor of a listening TCP socket that somebody else has opened, such as systemd; 0 means that the
	// proxy opens its own. It counts instead of Address. The proxy uses duplicates of it and never closes it.
	Socket int
	// Placer finds a backend for the clients of this listener. With Routes, each route has its own instead.
	Placer Placer
	Routes *Routes
	// Trusted are the load balancers in front of mqttlb. Connections from them must begin with a PROXY header, version 1
	// or 2, and all others are refused. nil means that clients connect themselves, and that a header is garbage.
	Trusted *Networks
	// MaxConnections bounds the open connections; 0 means no bound but the descriptors.
	MaxConnections int
	// ConnectTimeout bounds the time from accept to a complete CONNECT, however the bytes dribble in.
	// 0 means 10 s.
	ConnectTimeout time.Duration
	// ConnectSize bounds CONNECT in bytes. 0 means 64 KiB.
	ConnectSize int
	// Connects bounds the CONNECTs per second that are let in; 0 means no bound. Clients above it wait.
	Connects float64
	// ConnectWait bounds that wait. 0 means 5 s.
	ConnectWait time.Duration
	// ClientConnects bounds the CONNECTs per second of one client id, and ClientConnections the connections that have
	// it at a time; 0 means no bound. Clients without an id are not bounded.
	ClientConnects    float64
	ClientConnections int
	// PacketSize bounds the packets of clients in bytes, with their fixed header; CONNECT has its own limit. 0 means
	// no bound.
	PacketSize int
	// KeepAlive ends a session whose client has been silent for longer than it has promised, if the broker does not.
	KeepAlive bool
	// RefuseWithConnack answers a client that mqttlb refuses for one of its limits, or for whom there is no backend,
	// with CONNACK before closing.
	// Several client libraries never come back after one, so the default is to close only
	// (protocol.md, D3).
	RefuseWithConnack bool
	// TLS is nil for a listener that is plain TCP, WebSocket for one without it; both may be set. TLS is compared by
	// address: a listener that shall stay what it is across Reconfigure needs the same one.
	TLS       *TLSOptions
	WebSocket *WebSocketOptions
}

// same tells whether nothing is different.
func (o Listener) same(as Listener) bool {
	if !o.Trusted.equal(as.Trusted) || !o.Routes.equal(as.Routes) || !o.WebSocket.equal(as.WebSocket) {
		return false
	}
	as.Trusted, as.Routes, as.WebSocket = o.Trusted, o.Routes, o.WebSocket
	return o == as
}

// Options configure a Proxy.
type Options struct {
	Listeners []Listener
	// Loops is the number of event loops; 0 means 1. The process needs GOMAXPROCS of Procs(Loops).
	Loops int
	// MaxSessions bounds the sessions of the process; 0 derives it from the limit of descriptors.
	MaxSessions int
	Observer    Observer
	Log         *slog.Logger
}

// A Proxy carries connections between clients and backends. Its methods may be called from any goroutine.
type Proxy struct {
	loops    []*loop
	observer Observer
	log      *slog.Logger
	max      int64
	open     atomic.Int64
	started  time.Time
	serving  atomic.Bool
	full     atomic.Bool // there is no memory for new clients
	running  sync.WaitGroup

	reconfiguring sync.Mutex  // held by Reconfigure
	mu            sync.Mutex  // guards the rest; never taken by a loop
	listeners     []*listener // those that are open; changed by Reconfigure alone
	former        []*listener // others on which connections came in that are still open
	stopped       bool        // there will be no listeners any more

	stageTimes  stageTimes    // of evictions
	userTimeout time.Duration // of backends: how long what they were sent may stay unacknowledged

	silenceSlack   time.Duration // that a silent client gets beyond its keep alive
	pendingPerLoop int           // sessions without a CONNECT that a loop may have

	handshakesPerLoop int           // of TLS, that may be under way with clients; with backends as many
	upstreamTokens    chan struct{} // of handshakes with backends that compute, see handshake.go

	measuring sync.Mutex // held by Flows
	measured  int64      // when it was called last, on clock
}

// New opens the listeners. The error of one that cannot be opened names it and says why.
func New(o Options) (*Proxy, error) {
	p := &Proxy{observer: o.Observer, log: o.Log, max: int64(o.MaxSessions), started: time.Now(), stageTimes: usualTimes(), userTimeout: backendUserTimeout}
	p.silenceSlack = usualSlack
	if p.max == 0 {
		var err error
		if p.max, err = maxSessions(); err != nil {
			return nil, err
		}
	}
	p.pendingPerLoop = pendingLimit(p.max, max(o.Loops, 1))
	p.handshakesPerLoop = max(mostHandshakes/max(o.Loops, 1), 1)
	p.upstreamTokens = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	for id := range max(o.Loops, 1) {
		l, err := newLoop(id, p)
		if err != nil {
			p.abandon()
			return nil, fmt.Errorf("cannot start event loop %d: %w", id, explain(err))
		}
		p.loops = append(p.loops, l)
	}
	if err := p.openFirst(o.Listeners); err != nil {
		p.abandon()
		return nil, err
	}
	return p, nil
}

// Start begins to serve.
func (p *Proxy) Start() {
	p.serving.Store(true)
	for _, l := range p.loops {
		p.running.Go(l.run)
	}
}

// StopAccepting closes the listeners; connections that wait in their queues are still served.
func (p *Proxy) StopAccepting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.everywhere(func(l *loop) { l.stopListening() })
}

// DrainOptions say how Drain ends sessions.
type DrainOptions struct {
	// Over is the time over which the sessions are told to end.
	Over time.Duration
	// Suppress, Notify and Text are those of an Eviction, for all sessions.
	Suppress bool
	Notify   byte
	Text     string
}

// Drain ends the open sessions evenly over the given time and returns when none is left, or when ctx is
// done. A session is ended like an evicted one: at a quiet moment if there is one, the broker gets every byte
// so far and FIN, then the client gets every byte and FIN. Those that are not quiet when the time is over have
// two seconds more until they are ended anyway, and both peers some more to say goodbye: ctx should leave room
// for that.
func (p *Proxy) Drain(ctx context.Context, o DrainOptions) error {
	const step = 50 * time.Millisecond
	beats := time.NewTicker(step)
	defer beats.Stop()
	begin, total, told := time.Now(), int(p.open.Load()), 0
	for p.open.Load() > 0 {
		if passed := time.Since(begin); passed < o.Over {
			due := min(total, int(float64(total)*float64(passed)/float64(o.Over))+1)
			told += p.endSome(due-told, &o)
		} else {
			p.endRest(&o)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-beats.C:
		}
	}
	return nil
}

// endSome begins to end up to n sessions, the loops in turn, and returns how many.
func (p *Proxy) endSome(n int, o *DrainOptions) (ended int) {
	for i, l := range p.loops {
		left := len(p.loops) - i
		share := (n - ended + left - 1) / left
		p.on(l, func(l *loop) { ended += l.endSome(share, o) })
	}
	return ended
}

// endRest begins to end all sessions, also those that have come meanwhile, and leaves them little time to be gentle.
func (p *Proxy) endRest(o *DrainOptions) {
	p.everywhere(func(l *loop) {
		l.endSome(math.MaxInt, o)
		l.hurryAll()
	})
}

// Close ends everything at once and waits for the loops. It also takes back a New without a Start.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.stopped = true // a Reconfigure that is under way has to end
	p.mu.Unlock()
	if !p.serving.Load() {
		p.abandon()
		return
	}
	for _, l := range p.loops {
		l.do(func(l *loop) { l.stopped = true })
	}
	p.running.Wait()
}

// abandon gives back what New has opened.
func (p *Proxy) abandon() {
	for _, l := range p.loops {
		l.close()
	}
}

// everywhere has every loop call f, one after the other.
func (p *Proxy) everywhere(f func(*loop)) {
	for _, l := range p.loops {
		p.on(l, f)
	}
}

// on has one loop call f and waits until it has. A loop that has ended does not.
func (p *Proxy) on(l *loop, f func(*loop)) {
	done := make(chan struct{})
	if l.do(func(l *loop) { defer close(done); f(l) }) {
		<-done
	}
}

// endSome begins to end up to n sessions in an orderly way and returns how many. Those that are being evicted need
// not be told.
func (l *loop) endSome(n int, o *DrainOptions) (ended int) {
	for i := uint32(0); i < uint32(len(l.sessions.chunks)*slabSize) && ended < n; i++ {
		switch s := l.sessions.at(i); s.state {
		case stateReading, stateWaiting, stateDialing:
			l.refuse(s, EndShutdown, RefusedShutdown)
			ended++
		case stateAsking:
			l.settleDown(s, nil)
			l.endRelaying(s, o)
			ended++
		case stateRelaying:
			if s.eviction == nil {
				l.endRelaying(s, o)
				ended++
			}
		case stateClosing, stateFree:
		}
	}
	return ended
}

func (l *loop) endRelaying(s *session, o *DrainOptions) {
	e := &eviction{Eviction: Eviction{Suppress: o.Suppress, Notify: o.Notify, Text: o.Text, Force: true}, end: EndShutdown}
	if s.accepts() {
		l.seek(s, e)
		return
	}
	s.eviction = e // the broker has not taken the client in: there is nothing to be gentle about
	l.leave(s, MomentForced)
}

// hurryAll shortens the time that evictions have left, also those that somebody else has begun.
func (l *loop) hurryAll() {
	for i := range uint32(len(l.sessions.chunks) * slabSize) {
		if s := l.sessions.at(i); s.eviction != nil {
			l.hurry(s)
		}
	}
}

// clock is the time since the start in nanoseconds; it never goes back.
func (p *Proxy) clock() int64 { return int64(time.Since(p.started)) }

// reserveSession counts a new connection, or says why there must not be one.
func (p *Proxy) reserveSession(ln *listener) Refusal {
	if p.full.Load() {
		return RefusedMemory
	}
	if p.open.Add(1) > p.max {
		p.open.Add(-1)
		return RefusedDescriptors
	}
	if !ln.enter() {
		p.open.Add(-1)
		return RefusedConnections
	}
	return ""
}

// waitingRoom is how many clients of a listener may wait for their CONNECT to be let in: not so many that there is no
// room left for those who are.
func (p *Proxy) waitingRoom(ln *listener) int {
	sessions := p.max
	if ln.MaxConnections > 0 {
		sessions = min(sessions, int64(ln.MaxConnections))
	}
	return int(sessions / 2)
}

// lightest returns the loop with the fewest sessions if it has distinctly fewer than own, else own.
func (p *Proxy) lightest(own *loop) *loop {
	best, least := own, own.load.Load()
	least -= least / 8
	for _, l := range p.loops {
		if n := l.load.Load(); n < least {
			best, least = l, n
		}
	}
	return best
}

// descriptorsKept is how many descriptors stay free for everything that is not a session: listeners,
// the admin API, discovery, health checks, logs. With less than that and some sessions mqttlb does not start.
const descriptorsKept = 100

// maxSessions derives the bound from the limit of open files: a session needs two.
func maxSessions() (int64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	sessions := (int64(min(limit.Cur, 1<<31)) - descriptorsKept) / 2
	if sessions < 1 {
		return 0, fmt.Errorf("the limit of open files is %d, and mqttlb needs %d and two for each client; raise it (LimitNOFILE, ulimit -n)",
			limit.Cur, descriptorsKept)
	}
	return sessions, nil
}
