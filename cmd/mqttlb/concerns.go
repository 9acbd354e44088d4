package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/mqttlb/mqttlb/certs"
	"github.com/mqttlb/mqttlb/config"
)

// concernsOfListeners finds what listeners leave open: to everybody, or for nobody.
func concernsOfListeners(cfg *config.Config, warn func(path, msg string)) {
	var led []string
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		led = append(led, strings.Split(clustersOf(l), ",")...)
		if l.ProxyProtocol == nil {
			continue
		}
		for j, text := range l.ProxyProtocol.Trusted {
			if p, err := netip.ParsePrefix(string(text)); err == nil && p.Bits() == 0 {
				warn(fmt.Sprintf("listeners[%d].proxy_protocol.trusted[%d]", i, j), "is "+string(text)+
					", which is everybody: whoever connects can claim to come from any address; name the load balancers alone")
			}
		}
	}
	for i := range cfg.Clusters {
		if name := cfg.Clusters[i].Name; !slices.Contains(led, name) {
			warn(fmt.Sprintf("clusters[%d]", i), fmt.Sprintf("has the name %s, to which no listener leads: it gets no clients; "+
				"write cluster: %s in a listener, or in one of its routes", name, name))
		}
	}
}

// concernsOfRoutes finds the routes of a listener for whose name there is no certificate: their clients are shown the
// default one, and do not like it.
func concernsOfRoutes(i int, l *config.Listener, s *certs.Server, warn func(path, msg string)) {
	for j := range l.Routes {
		if name := l.Routes[j].SNI; name != "" && !s.Knows(name) {
			warn(fmt.Sprintf("listeners[%d].routes[%d].sni", i, j), fmt.Sprintf("is %s, for which there is no certificate: its clients get the default one, %s",
				name, l.TLS.Certificates[0].Cert))
		}
	}
}
