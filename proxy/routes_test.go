package proxy

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"testing"
)

func TestServerNamesMatchAsInCertificates(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, name string
		want          bool
	}{
		{"a.example", "a.example", true},
		{"a.example", "b.example", false},
		{"a.example", "", false},
		{"*.a.example", "x.a.example", true},
		{"*.a.example", "a.example", false},
		{"*.a.example", "y.x.a.example", false},
		{"*.a.example", ".a.example", false},
		{"*.a.example", "xa.example", false},
		{"*.a.example", "", false},
	}
	for _, tt := range tests {
		if got := matchesName(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q matches %q: got %v, want %v", tt.pattern, tt.name, got, tt.want)
		}
	}
}

func TestAllMatchersOfARouteMustMatch(t *testing.T) {
	t.Parallel()
	re := regexp.MustCompile
	known := &security{sni: "a.example", cn: "press-7", sans: []string{"press.factory"}, verified: true}
	tests := []struct {
		name  string
		route Route
		facts routeFacts
		want  bool
	}{
		{"none", Route{}, routeFacts{}, true},
		{"a name", Route{SNI: "a.example"}, routeFacts{security: known}, true},
		{"a name without TLS", Route{SNI: "a.example"}, routeFacts{}, false},
		{"a certificate", Route{ClientCN: re("^press-")}, routeFacts{security: known}, true},
		{"another name in it", Route{ClientCN: re("^press.factory$")}, routeFacts{security: known}, true},
		{"another certificate", Route{ClientCN: re("^lathe-")}, routeFacts{security: known}, false},
		{"a certificate that nobody has verified", Route{ClientCN: re("^press-")}, routeFacts{security: &security{cn: "press-7"}}, false},
		{"no certificate", Route{ClientCN: re("")}, routeFacts{security: &security{verified: true}}, false},
		{"a user", Route{Username: re("^a/")}, routeFacts{username: []byte("a/x")}, true},
		{"no user", Route{Username: re("")}, routeFacts{}, false},
		{"a client", Route{ClientID: re("^a-")}, routeFacts{clientID: []byte("a-x")}, true},
		{"an id of unusual length", Route{ClientID: re("a")}, routeFacts{clientID: make([]byte, maxMatched+1)}, false},
		{"both", Route{ClientID: re("^a-"), Username: re("^u$")}, routeFacts{clientID: []byte("a-x"), username: []byte("u")}, true},
		{"one of two", Route{ClientID: re("^a-"), Username: re("^u$")}, routeFacts{clientID: []byte("a-x"), username: []byte("v")}, false},
	}
	for _, tt := range tests {
		if got := tt.route.matches(&tt.facts); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// tenants are two rigs of which only the first has clients: routes lead them to the brokers of both.
func tenants(t *testing.T, o Listener, a, b Route) (r, other *rig) {
	t.Helper()
	other = newRig(t, rigOptions{}) // closed after r, whose sessions have places there
	r = newRig(t, rigOptions{listener: o})
	r.route(o, other, a, b)
	return r, other
}

// route reconfigures the listener.
func (r *rig) route(o Listener, other *rig, a, b Route) {
	r.t.Helper()
	a.Name, a.Placer = "a", r.placer
	b.Name, b.Placer = "b", other.placer
	o.Name, o.Address, o.Routes = "test", "127.0.0.1:0", &Routes{List: []Route{a, b}}
	if err := r.proxy.Reconfigure([]Listener{o}); err != nil {
		r.t.Fatal(err)
	}
}

// enters connects a client through r to the broker of at.
func (r *rig) enters(at *rig, id string) (client, broker *net.TCPConn) {
	r.t.Helper()
	client = r.dial()
	write(r.t, client, connect(id))
	broker = at.accept(0)
	expect(r.t, broker, connect(id))
	write(r.t, broker, connack())
	expect(r.t, client, connack())
	return client, broker
}

func byID(pattern string) Route { return Route{ClientID: regexp.MustCompile(pattern)} }

func TestTenantsByClientID(t *testing.T) {
	t.Parallel()
	o := Listener{RefuseWithConnack: true}
	r, other := tenants(t, o, byID("^a-"), byID("^b-"))
	first, broker := r.enters(r, "a-1")
	r.enters(other, "b-1")
	lost := r.dial()
	write(t, lost, connect("c-1"))
	expect(t, lost, []byte{0x20, 2, 0, 5}) // not authorized
	if rec := r.record(); rec.Refusal != RefusedNoRoute || rec.Route != "" {
		t.Errorf("got %q and route %q, want no_route and none", rec.Refusal, rec.Route)
	}
	if got := r.proxy.Routes(); len(got) != 2 || got[0].Connections != 1 || got[1].Connections != 1 {
		t.Errorf("got %v, want one connection of each route", got)
	}
	_ = first.Close()
	_ = broker.Close()
	if rec := r.record(); rec.Route != "a" {
		t.Errorf("got route %q, want a", rec.Route)
	}
}

func TestTheLimitOfATenantLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	limited := byID("^a-")
	limited.MaxConnections, limited.ClientConnections = 2, 1
	r, other := tenants(t, Listener{}, limited, byID("^b-|^x$"))
	first, broker := r.enters(r, "a-1")
	refused := func(id string, want Refusal) {
		t.Helper()
		c := r.dial()
		write(t, c, connect(id))
		if rec := r.record(); rec.Refusal != want {
			t.Errorf("got %q for %s, want %q", rec.Refusal, id, want)
		}
	}
	refused("a-1", RefusedClientConnections)
	r.enters(r, "a-2")
	refused("a-3", RefusedRouteConnections)
	r.enters(other, "b-1")
	r.enters(other, "b-1") // another tenant, other limits
	_ = first.Close()
	_ = broker.Close()
	r.record()
	r.enters(r, "a-3")
}

// A tenant whose clients wait for their turn keeps only them waiting.
func TestTheRateOfATenantLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	slow := byID("^a-")
	slow.Connects = 0.1
	r, other := tenants(t, Listener{}, slow, byID("^b-"))
	r.enters(r, "a-1")
	waits := r.dial()
	write(t, waits, connect("a-2"))
	for range 5 {
		r.enters(other, "b-1")
	}
	if n := r.placer.held(); n != 1 {
		t.Errorf("got %d places of the slow tenant, want 1", n)
	}
	_ = waits.Close()
	r.record()
}

func TestReconfigureChangesRoutesAndNoSession(t *testing.T) {
	t.Parallel()
	r, other := tenants(t, Listener{}, byID("^a-"), byID("^b-"))
	client, broker := r.enters(r, "a-1")
	r.route(Listener{}, other, byID("^b-"), byID("^a-"))
	r.enters(other, "a-1")
	r.enters(r, "b-1")
	write(t, client, []byte{0xc0, 0})
	expect(t, broker, []byte{0xc0, 0})
	write(t, broker, []byte{0xd0, 0})
	expect(t, client, []byte{0xd0, 0})
	if !r.proxy.Uses(r.placer) || !r.proxy.Uses(other.placer) {
		t.Error("the placers of routes are not in use")
	}
	r.proxy.everywhere(func(l *loop) { // nobody is counted twice, or under another name
		for i := range uint32(len(l.sessions.chunks) * slabSize) {
			if s := l.sessions.at(i); s.state != stateFree && !s.routed {
				t.Error("a session is not counted by its route")
			}
		}
	})
	if got := r.proxy.Routes(); got[0].Connections != 2 || got[1].Connections != 1 {
		t.Errorf("got %v, want 2 and 1 connections", got)
	}
}

// A configuration that is read again and says the same leaves a listener what it is.
func TestWhatMakesAnotherListener(t *testing.T) {
	t.Parallel()
	security, placer := new(TLSOptions), new(fakePlacer)
	listener := func(change func(*Listener)) *Listener {
		o := &Listener{
			TLS: security, WebSocket: &WebSocketOptions{Path: "/mqtt", Origins: []string{"https://a.example"}},
			Trusted: NewNetworks([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}),
			Routes:  &Routes{List: []Route{{Name: "a", SNI: "a.example", Placer: placer}, {Name: "b", ClientID: regexp.MustCompile("^b"), Placer: placer}}},
		}
		change(o)
		return o
	}
	was := listener(func(*Listener) {})
	for name, change := range map[string]func(*Listener){
		"nothing":     func(*Listener) {},
		"a limit":     func(o *Listener) { o.MaxConnections = 1 },
		"TLS":         func(o *Listener) { o.TLS = new(TLSOptions) },
		"no routes":   func(o *Listener) { o.Routes = nil },
		"a route":     func(o *Listener) { o.Routes.List = o.Routes.List[:1] },
		"order":       func(o *Listener) { slices.Reverse(o.Routes.List) },
		"a name":      func(o *Listener) { o.Routes.List[0].SNI = "c.example" },
		"a pattern":   func(o *Listener) { o.Routes.List[1].ClientID = regexp.MustCompile("^c") },
		"no pattern":  func(o *Listener) { o.Routes.List[1].ClientID = nil },
		"a cluster":   func(o *Listener) { o.Routes.List[1].Placer = new(fakePlacer) },
		"a path":      func(o *Listener) { o.WebSocket.Path = "/" },
		"an origin":   func(o *Listener) { o.WebSocket.Origins = nil },
		"plain":       func(o *Listener) { o.WebSocket = nil },
		"who is next": func(o *Listener) { o.Trusted = nil },
	} {
		is := listener(change)
		if same := was.same(*is); same != (name == "nothing") || is.same(*was) != same {
			t.Errorf("%s: got the same listener %v", name, same)
		}
	}
}
