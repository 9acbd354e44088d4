package proxy

import (
	"regexp"
	"slices"
	"strings"
)

// A Route leads some of the clients of a listener to a Placer of their own: a tenant to its cluster. All of its
// matchers that are set must match; a route without any takes whoever comes to it. Expressions are tied to the ends of
// a text by ^ and $ only.
type Route struct {
	// Name is unique in its listener. What the connections of a route share survives a Reconfigure by it.
	Name string
	// SNI is the server name in the client's ClientHello, in lower case, or a pattern *.example.com that stands for
	// exactly one label in front, as in certificates.
	SNI string
	// ClientCN is tried on the common name of the client's certificate and on the names beside it (SANs), if the
	// certificate was verified.
	ClientCN *regexp.Regexp
	// Username and ClientID are tried on what CONNECT says.
	Username, ClientID *regexp.Regexp
	// Placer finds a backend for the clients of this route.
	Placer Placer
	// MaxConnections bounds the open connections of the route, beside the bound of the listener; 0 means no bound.
	MaxConnections int
	// Connects, ClientConnects and ClientConnections count for the clients of this route in place of those of the
	// listener; 0 leaves those. In each route, client ids are counted by themselves.
	Connects, ClientConnects float64
	ClientConnections        int
}

// Routes are the routes of a listener. The first that matches a client counts; one whom none matches is refused. They
// must not change any more.
type Routes struct {
	List []Route
}

// equal tells whether the routes say the same.
func (r *Routes) equal(other *Routes) bool {
	if r == nil || other == nil {
		return r == other
	}
	return slices.EqualFunc(r.List, other.List, func(a, b Route) bool {
		if !sameExpression(a.ClientCN, b.ClientCN) || !sameExpression(a.Username, b.Username) || !sameExpression(a.ClientID, b.ClientID) {
			return false
		}
		b.ClientCN, b.Username, b.ClientID = a.ClientCN, a.Username, a.ClientID
		return a == b
	})
}

func sameExpression(a, b *regexp.Regexp) bool {
	return a == b || a != nil && b != nil && a.String() == b.String()
}

// maxMatched bounds what expressions are tried on, in bytes; nothing longer matches. Their time is linear, but a client
// id may have 64 KiB, and nobody names a device like that.
const maxMatched = 1024

// routeFacts are what routes look at.
type routeFacts struct {
	security           *security // nil without TLS
	username, clientID []byte    // nil if nobody knows
}

// A route is a Route of a listener that is open, or was.
type route struct {
	Route
	shared *gate // by all connections of routes with this name
}

// newRoutes makes routes ready for use; share fills in what they share.
func newRoutes(list *Routes) []route {
	if list == nil {
		return nil
	}
	routes := make([]route, len(list.List))
	for i := range list.List {
		routes[i].Route = list.List[i]
	}
	return routes
}

// matches tells whether the route is one for a client.
func (r *Route) matches(f *routeFacts) bool {
	var sec security
	if f.security != nil {
		sec = *f.security
	}
	return (r.SNI == "" || matchesName(r.SNI, sec.sni)) &&
		(r.ClientCN == nil || sec.verified && sec.named(r.ClientCN)) &&
		(r.Username == nil || f.username != nil && fits(r.Username, f.username)) &&
		(r.ClientID == nil || f.clientID != nil && fits(r.ClientID, f.clientID))
}

func fits(e *regexp.Regexp, text []byte) bool { return len(text) <= maxMatched && e.Match(text) }

// matchesName compares a server name with a pattern.
func matchesName(pattern, name string) bool {
	if domain, wild := strings.CutPrefix(pattern, "*."); wild {
		label, rest, found := strings.Cut(name, ".")
		return found && label != "" && rest == domain
	}
	return name == pattern
}

// named tells whether the client's certificate bears a name that fits.
func (c *security) named(e *regexp.Regexp) bool {
	for _, name := range c.sans {
		if len(name) <= maxMatched && e.MatchString(name) {
			return true
		}
	}
	return c.cn != "" && len(c.cn) <= maxMatched && e.MatchString(c.cn)
}

// knowsName tells whether a client with this server name, or without one, may have a route; if not, nothing that it could
// say after its ClientHello matters.
func (ln *listener) knowsName(sni string) bool {
	if len(ln.routes) == 0 {
		return true
	}
	for i := range ln.routes {
		if pattern := ln.routes[i].SNI; pattern == "" || matchesName(pattern, sni) {
			return true
		}
	}
	return false
}

// takeRoute finds the route of a client that has said all that is needed for it. It reports false if there is none. A
// session keeps its route, and the Placer behind it, for life.
func (l *loop) takeRoute(s *session) bool {
	ln := s.listener
	if len(ln.routes) == 0 {
		return true
	}
	f := routeFacts{security: s.security}
	if !s.opaque {
		f.clientID = l.connect.ClientID
		if f.clientID == nil {
			f.clientID = []byte{}
		}
		if l.connect.HasUsername {
			f.username = l.connect.Username
		}
	}
	for i := range ln.routes {
		if r := &ln.routes[i]; r.matches(&f) {
			s.chosen = uint32(i + 1)
			return true
		}
	}
	return false
}

// route is the one that was chosen for the session, nil while none is and where the listener has none.
func (s *session) route() *route {
	if s.chosen == 0 {
		return nil
	}
	return &s.listener.routes[s.chosen-1]
}

// placer is that of the listener, or of the route that was chosen.
func (s *session) placer() Placer {
	if r := s.route(); r != nil {
		return r.Placer
	}
	return s.listener.Placer
}

// enterRoute counts a connection of the session's route; false if that has as many as it may have.
func (s *session) enterRoute() bool {
	if s.route() == nil {
		return true
	}
	if n := s.route().shared.open.Add(1); s.route().MaxConnections > 0 && n > int64(s.route().MaxConnections) {
		s.route().shared.open.Add(-1)
		return false
	}
	s.routed = true
	return true
}

// leaveRoute counts the end of one.
func (s *session) leaveRoute() {
	if s.routed {
		s.routed = false
		s.route().shared.open.Add(-1)
	}
}

// routeName is empty for a session that has no route.
func (s *session) routeName() string {
	if s.route() == nil {
		return ""
	}
	return s.route().Name
}

// sni is the server name in the client's ClientHello, empty if there is none.
func (s *session) sni() string {
	if s.security == nil {
		return ""
	}
	return s.security.sni
}

// queue is where the session waits for its CONNECT to be let in, and rate how many are let in there in a second.
func (s *session) queue() (q *queue, rate float64) {
	if s.route() != nil && s.route().Connects > 0 {
		return s.route().shared.queue, s.route().Connects
	}
	return s.listener.shared.queue, s.listener.Connects
}

// clients hold the client id of the session to its limits, rate and most.
func (s *session) clients() (c *clients, rate float64, most int) {
	c, rate, most = s.listener.shared.clients, s.listener.ClientConnects, s.listener.ClientConnections
	if r := s.route(); r != nil {
		c = r.shared.clients
		if r.ClientConnects > 0 {
			rate = r.ClientConnects
		}
		if r.ClientConnections > 0 {
			most = r.ClientConnections
		}
	}
	return c, rate, most
}

// contested is the client id as one that two devices may be fighting for: the same id means another client in
// another route.
func (s *session) contested() string {
	if s.route() == nil {
		return s.clientID
	}
	return s.route().Name + "\x00" + s.clientID
}

// shareRoutes gives the routes of a listener what those of the same name share.
func (ln *listener) shareRoutes(loops int) {
	for i := range ln.routes {
		r := &ln.routes[i]
		if r.shared = ln.shared.routes[r.Name]; r.shared == nil {
			r.shared = newGate(loops)
			ln.shared.routes[r.Name] = r.shared
		}
	}
}

// configureRoutes lets the limits of a listener's routes count.
func (p *Proxy) configureRoutes(ln *listener) {
	for i := range ln.routes {
		r := &ln.routes[i]
		r.shared.queue.configure(r.Connects, p.waitingRoom(ln))
	}
}

// A RouteState shows one route.
type RouteState struct {
	Listener, Route string
	// Connections are open, and Waiting of them wait for their CONNECT to be let in at the route's own rate.
	Connections, Waiting int
}

// Routes returns the routes of all listeners, in their order.
func (p *Proxy) Routes() []RouteState {
	p.mu.Lock()
	defer p.mu.Unlock()
	var states []RouteState
	for _, ln := range p.listeners {
		for i := range ln.routes {
			r := &ln.routes[i]
			states = append(states, RouteState{ln.Name, r.Name, int(r.shared.open.Load()), r.shared.queue.length()})
		}
	}
	return states
}

// asks tells whether a connection of this listener may ask the Placer.
func (ln *listener) asks(placer Placer) bool {
	if len(ln.routes) == 0 {
		return ln.Placer == placer
	}
	for i := range ln.routes {
		if ln.routes[i].Placer == placer {
			return true
		}
	}
	return false
}

// refuseUnrouted sends a client away to whom no route leads.
func (l *loop) refuseUnrouted(s *session) {
	if s.opaque {
		l.refuseName(s)
		return
	}
	l.turnAway(s, RefusedNoRoute)
}
