package main

import (
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/proxy"
)

func (a *app) listeners(cfg *config.Config, secured *tlsChange) []proxy.Listener {
	listeners := make([]proxy.Listener, 0, len(cfg.Listeners))
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		listeners = append(listeners, proxy.Listener{
			Name:              l.Name,
			Address:           l.Address,
			Socket:            a.sockets[l.Name],
			Routes:            a.routes(l),
			Trusted:           trustedBy(l),
			MaxConnections:    l.Limits.Connections,
			ConnectTimeout:    l.Limits.ConnectTimeout,
			ConnectSize:       int(l.Limits.ConnectSize),
			Connects:          float64(l.Limits.Connects),
			ConnectWait:       l.Limits.ConnectWait,
			ClientConnects:    float64(l.Limits.ConnectsPerClient),
			ClientConnections: l.Limits.ConnectionsPerClient,
			PacketSize:        int(l.Limits.PacketSize),
			KeepAlive:         l.Limits.KeepAlive,
			RefuseWithConnack: l.Refuse == "connack",
			TLS:               secured.options(l.Name),
			WebSocket:         webSocket(l),
		})
		if len(l.Routes) == 0 {
			listeners[i].Placer = a.cluster(l.Cluster)
		}
	}
	return listeners
}

// clustersOf names the clusters that serve the clients of a listener.
func clustersOf(l *config.Listener) string {
	names := []string{l.Cluster}
	for i := range l.Routes {
		names = append(names, l.Routes[i].Cluster)
	}
	slices.Sort(names)
	return strings.TrimPrefix(strings.Join(slices.Compact(names), ","), ",")
}

// routes are those of a listener, nil if it has none.
func (a *app) routes(l *config.Listener) *proxy.Routes {
	if len(l.Routes) == 0 {
		return nil
	}
	routes := new(proxy.Routes)
	for i := range l.Routes {
		to := &l.Routes[i]
		routes.List = append(routes.List, proxy.Route{
			Name:              to.Name,
			SNI:               to.SNI,
			ClientCN:          checked(to.ClientCN),
			Username:          checked(to.Username),
			ClientID:          checked(to.ClientID),
			Placer:            a.cluster(to.Cluster),
			MaxConnections:    to.Limits.Connections,
			Connects:          float64(to.Limits.Connects),
			ClientConnects:    float64(to.Limits.ConnectsPerClient),
			ClientConnections: to.Limits.ConnectionsPerClient,
		})
	}
	return routes
}

// checked compiles an expression that config has checked; nil if there is none.
func checked(text string) *regexp.Regexp {
	if text == "" {
		return nil
	}
	return regexp.MustCompile(text)
}

// trustedBy are the load balancers in front of a listener, nil if clients connect themselves; config has checked them.
func trustedBy(l *config.Listener) *proxy.Networks {
	if l.ProxyProtocol == nil {
		return nil
	}
	var list []netip.Prefix
	for _, text := range l.ProxyProtocol.Trusted {
		if p, err := netip.ParsePrefix(string(text)); err == nil {
			list = append(list, p)
		}
	}
	return proxy.NewNetworks(list)
}

// describeListeners tells the admin API what the listeners are.
func (a *app) describeListeners() {
	if a.admin == nil {
		return
	}
	list := make([]admin.Listener, len(a.config.Listeners))
	for i := range a.config.Listeners {
		l := &a.config.Listeners[i]
		at, _ := a.proxy.Addr(l.Name)
		list[i] = admin.Listener{
			Name: l.Name, Address: at.String(), Transport: l.Transport, TLS: l.TLS.Mode, Clusters: strings.Split(clustersOf(l), ","),
		}
	}
	a.admin.SetListeners(list)
}

func (a *app) logListening(l *config.Listener) {
	at, _ := a.proxy.Addr(l.Name)
	attrs := []any{slog.String("listener", l.Name), slog.String("address", at.String()), slog.String("cluster", clustersOf(l))}
	if p := l.ProxyProtocol; p != nil {
		attrs = append(attrs, slog.Any("proxy_protocol_from", p.Trusted))
	}
	a.log.Info("listening", attrs...)
}
