package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

// Options configure a Server. What has no default is required.
type Options struct {
	// Address is the TCP address to read from, host:port; empty opens none, port 0 any free port.
	Address string
	// Socket is the path of the unix socket with the full API; empty opens none.
	Socket string
	// Token allows writes over Address. nil allows none; a token must have at least 32 characters.
	Token []byte
	// ReadTimeout bounds how long a request may take to arrive; 0 means 10 s.
	ReadTimeout time.Duration

	// Version and Instance say which program and which of its instances this is; Started is since when.
	Version, Instance string
	Started           time.Time

	Proxy Proxy
	// Clusters are the first ones; see SetClusters.
	Clusters []Cluster
	// Metrics answers /metrics.
	Metrics http.Handler
	// Reload reads the configuration again. It may be called several times at once; its context does
	// not end when the one who asked stops waiting.
	Reload func(context.Context) error
	// Events is where events come from; nil means that there are none.
	Events *Hub
	Log    *slog.Logger
}

// A Proxy is what the API shows of the data path. *proxy.Proxy is one.
type Proxy interface {
	Sessions(match func(*proxy.SessionInfo) bool, limit int) []proxy.SessionInfo
	Stats() proxy.Stats
	Connections() map[string]int
}

// A Cluster is what the API shows and steers of a broker cluster. *cluster.Cluster is one.
type Cluster interface {
	Shown
	Grouped
	Steered
}

// Shown is a cluster at one moment.
type Shown interface {
	Name() string
	Ready() bool
	Status() cluster.Status
	Explain(clientID string, persistent bool) cluster.Explanation
	// Lost are the clients that were moved and have not come again, the latest first.
	Lost(limit int) []cluster.LostClient
}

// Grouped are the shared-subscription groups of a cluster.
type Grouped interface {
	// Groups are the groups in the order of their names, at most limit; more tells that there are more.
	Groups(limit int) (list []cluster.GroupStatus, more bool)
	Group(name string) (g cluster.GroupStatus, known bool)
}

// Steered is what an operator can have a cluster do. Each method returns when it has begun.
type Steered interface {
	Drain(backend string, rate float64) error
	Resume(backend string) error
	Force(state string) error
	Rebalance(dryRun bool, limit int) (cluster.Plan, error)
}

// A Server answers operators and monitoring.
type Server struct {
	options   Options
	log       *slog.Logger
	token     *token // nil: no writes over TCP
	shown     atomic.Pointer[[]Cluster]
	described atomic.Pointer[[]Listener]
	http      *http.Server
	listeners []net.Listener
	address   net.Addr // of the TCP listener; nil when there is none
	stage     atomic.Uint32
	remotes   atomic.Int64 // open connections over TCP
	refusals  atomic.Int64 // when a refused write was last logged, in ns since 1970
	hub       *Hub
	listening [2]atomic.Int64 // who listens to events over TCP, and over the socket
	ending    chan struct{}   // closed when streams are to end
	planning  sync.Mutex      // held while a plan is made
}

// The stages in the life of a Server. They only ever go up.
const (
	starting uint32 = iota
	ready
	stopping
)

// Times and sizes that bound what a request may cost.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute
	stopTimeout   = 3 * time.Second // for requests in flight, at the end
	// maxHeader has room for the longest client id, 65535 bytes, all of them percent-encoded.
	maxHeader = 256 << 10
	// maxRemotes bounds the connections over TCP: the data path needs the descriptors. The socket has
	// no bound, so that an operator can always get in.
	maxRemotes = 64
)

// New returns a Server that does not listen yet.
func New(o Options) (*Server, error) {
	s := &Server{options: o, log: o.Log, hub: o.Events, ending: make(chan struct{})}
	if s.hub == nil {
		s.hub = NewHub()
	}
	s.SetClusters(o.Clusters)
	if o.Token != nil {
		var err error
		if s.token, err = newToken(o.Token); err != nil {
			return nil, err
		}
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = readTimeout
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: min(headerTimeout, o.ReadTimeout),
		ReadTimeout:       o.ReadTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnContext:       withPeer,
		ConnState:         s.limitRemotes,
		// What net/http has to say is about clients that vanish or send garbage.
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Serve answers requests until ctx is done, or until a listener fails, and then lets those in flight
// finish for a moment. Listen must have been called. The sockets are closed when it returns, and the
// unix socket's file is gone.
func (s *Server) Serve(ctx context.Context) error {
	ended := make(chan error, len(s.listeners))
	var running sync.WaitGroup
	for _, l := range s.listeners {
		running.Go(func() { ended <- s.http.Serve(l) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-ended:
	}
	close(s.ending)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if s.http.Shutdown(limit) != nil {
		_ = s.http.Close() // Shutdown has closed the listeners; this cuts off who is still there
	}
	running.Wait()
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// Close gives back what Listen has opened. It is for a start that fails before Serve; requests in
// flight are cut off.
func (s *Server) Close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
	_ = s.http.Close()
}

// Addr is where the Server listens on TCP, nil if it does not; useful when the port was 0.
func (s *Server) Addr() net.Addr { return s.address }

// SetClusters makes these the clusters that are shown from now on. The list must not change any more.
func (s *Server) SetClusters(list []Cluster) { s.shown.Store(&list) }

// SetListeners describes the listeners from now on; their connections do not matter. The list must not change any more.
func (s *Server) SetListeners(list []Listener) { s.described.Store(&list) }

// SetReady ends the start. It has no effect on a Server that is stopping.
func (s *Server) SetReady() { s.stage.CompareAndSwap(starting, ready) }

// SetStopping makes /readyz fail from now on, so that whatever stands in front looks elsewhere.
func (s *Server) SetStopping() { s.stage.Store(stopping) }

// unready says why clients should not be sent here; empty when they should.
func (s *Server) unready() string {
	switch s.stage.Load() {
	case starting:
		return "mqttlb is starting"
	case stopping:
		return "mqttlb is stopping"
	}
	for _, c := range *s.shown.Load() {
		if !c.Ready() {
			return fmt.Sprintf("cluster %q knows no backend", c.Name())
		}
	}
	return ""
}

// limitRemotes closes connections over TCP that are too many.
func (s *Server) limitRemotes(c net.Conn, state http.ConnState) {
	if _, local := c.(*net.UnixConn); local {
		return
	}
	switch state {
	case http.StateNew:
		if s.remotes.Add(1) > maxRemotes {
			_ = c.Close() // net/http notices and reports StateClosed
		}
	case http.StateClosed, http.StateHijacked:
		s.remotes.Add(-1)
	case http.StateActive, http.StateIdle:
	}
}
