package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// deriveRoutes fills in the names of routes and clusters.
func deriveRoutes(routes []Route, clusters []Cluster) {
	taken := make(map[string]bool)
	for i := range routes {
		taken[routes[i].Name] = true
	}
	for i := range routes {
		to := &routes[i]
		if to.Cluster == "" && len(clusters) == 1 {
			to.Cluster = clusters[0].Name
		}
		if to.Name != "" {
			continue
		}
		to.Name = to.Cluster
		for n := 2; to.Name != "" && taken[to.Name]; n++ {
			to.Name = to.Cluster + "-" + strconv.Itoa(n)
		}
		taken[to.Name] = true
	}
}

// validateRoutes checks where the clients of a listener go.
func validateRoutes(path string, l *Listener, clusters []Cluster, r *report) {
	if len(l.Routes) == 0 {
		checkCluster(path+".cluster", l.Cluster, clusters, r)
	} else if l.Cluster != "" {
		r.at(path+".cluster", "cannot be used beside routes; for the clients that no other route matches, write a last route {cluster: %s}", l.Cluster)
	}
	names := names{uniqueness{what: "each route of a listener needs a name of its own"}}
	everybody, all := -1, path+".routes"
	for i := range l.Routes {
		to, path := &l.Routes[i], item(all, i)
		if everybody >= 0 {
			r.about(path, "is never reached, because %s takes everybody; put that at the end", r.reference(item(all, everybody)))
		} else if !to.selects() && r.sound(path) {
			everybody = i
		} else if j := coveredBy(all, l.Routes[:i], to, r); j >= 0 && r.sound(path) {
			r.about(path, "is never reached, because %s takes all of these clients; put that behind it, or remove one of the two", r.reference(item(all, j)))
		}
		if to.Name != "" {
			names.check(path+".name", to.Name, r)
		}
		checkCluster(path+".cluster", to.Cluster, clusters, r)
		validateRoute(path, to, &l.TLS, r)
	}
	if l.TLS.Mode == TLSPassthrough {
		validatePassthrough(path, l, r)
	}
}

// selects tells whether the route is not for everybody.
func (t *Route) selects() bool { return t.SNI+t.ClientCN+t.Username+t.ClientID != "" }

// coveredBy returns the first of the routes that takes everybody whom another would take, or -1.
func coveredBy(path string, routes []Route, to *Route, r *report) int {
	for i := range routes {
		if routes[i].covers(to) && r.sound(item(path, i)) {
			return i
		}
	}
	return -1
}

// covers tells whether the route takes everybody whom another would take. Of expressions it knows only equal ones.
func (t *Route) covers(other *Route) bool {
	name := t.SNI == "" || t.SNI == other.SNI
	if suffix, ok := strings.CutPrefix(t.SNI, "*"); ok && !name {
		label, rest, _ := strings.Cut(other.SNI, ".")
		name = label != "" && label != "*" && "."+rest == suffix
	}
	same := func(a, b string) bool { return a == "" || a == b }
	return name && same(t.ClientCN, other.ClientCN) && same(t.Username, other.Username) && same(t.ClientID, other.ClientID)
}

// validateRoute checks that what a route matches can be matched.
func validateRoute(path string, to *Route, t *ListenerTLS, r *report) {
	if to.SNI != "" {
		checkServerName(path+".sni", to.SNI, r)
		if t.Mode == "" && r.sound(path+".sni") {
			r.at(path+".sni", "needs TLS on this listener; write tls: {mode: terminate} with certificates, or tls: {mode: passthrough}")
		}
	}
	checkRE2(path+".client_cn", to.ClientCN, r)
	checkRE2(path+".username", to.Username, r)
	checkRE2(path+".client_id", to.ClientID, r)
	switch {
	case t.Mode == TLSPassthrough:
		for _, key := range []struct {
			name  string
			given bool
		}{
			{"client_cn", to.ClientCN != ""},
			{"username", to.Username != ""},
			{"client_id", to.ClientID != ""},
			{"limits.connects_per_client", to.Limits.ConnectsPerClient > 0},
			{"limits.connections_per_client", to.Limits.ConnectionsPerClient > 0},
		} {
			if key.given {
				r.at(path+"."+key.name, "cannot be used with tls.mode passthrough, where nothing but the server name can be read; remove it")
			}
		}
	case to.ClientCN != "" && (t.Mode == "" || t.ClientAuth == "none") && r.sound(path+".client_cn"):
		r.at(path+".client_cn", "needs certificates of clients; write tls: {mode: terminate, client_auth: require} with certificates and client_ca")
	}
}

// validatePassthrough checks that a listener asks for nothing that needs what it does not decrypt.
func validatePassthrough(path string, l *Listener, r *report) {
	for _, key := range []struct {
		name  string
		given bool
	}{
		{"limits.connects_per_client", l.Limits.ConnectsPerClient > 0},
		{"limits.connections_per_client", l.Limits.ConnectionsPerClient > 0},
		{"limits.packet_size", l.Limits.PacketSize > 0},
		{"refuse", l.Refuse == "connack"},
	} {
		if key.given {
			r.at(path+"."+key.name, "cannot be used with tls.mode passthrough, where no packet can be read or written; remove it")
		}
	}
}

// checkServerName checks a server name, or a pattern of one.
func checkServerName(path, name string, r *report) {
	host := strings.TrimPrefix(name, "*.")
	if strings.ToLower(name) != name {
		r.at(path, "must be in lower case, got %s; write %s", literal{text: name, quoted: true}.show(), strings.ToLower(name))
		return
	}
	if !isServerName(host) {
		r.at(path, "must be a host name such as mqtt.example.com, or *.example.com for all with one label more, got %s%s",
			literal{text: name, quoted: true}.show(), serverNameHint(name))
	}
}

func isServerName(host string) bool {
	canonical, ok := canonicalHost(host)
	return ok && canonical == host && host != "" && !isAddress(host)
}

// serverNameHint says what to write instead, if that can be guessed.
func serverNameHint(name string) string {
	if name == "*" {
		return "; leave sni out for a last route that takes everybody"
	}
	if isAddress(strings.Trim(name, "[]")) {
		return "; an IP address is no server name: only a route without sni takes clients that connect to one"
	}
	if _, rest, isURL := strings.Cut(name, "://"); isURL {
		name, _, _ = strings.Cut(rest, "/")
	}
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	if isServerName(strings.TrimPrefix(name, "*.")) {
		return "; write " + name
	}
	return ""
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
