package config

import (
	"reflect"
	"time"
)

// derive fills in the defaults that depend on the surroundings or on other
// values. In the schema they have the tag derived.
func derive(cfg *Config, opts Options, r *report) {
	if cfg.Instance.Name == "" {
		cfg.Instance.Name = opts.Hostname
	}
	if cfg.Listeners == nil {
		cfg.Listeners = []Listener{newListener()}
	}
	if len(cfg.Clusters) == 1 && cfg.Clusters[0].Name == "" {
		cfg.Clusters[0].Name = "default"
	}
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		switch {
		case l.Name != "":
		case i == 0:
			l.Name = "mqtt"
		default:
			l.Name = l.Address
		}
		deriveRoutes(l.Routes, cfg.Clusters)
		if l.Cluster == "" && len(l.Routes) == 0 && len(cfg.Clusters) == 1 {
			l.Cluster = cfg.Clusters[0].Name
		}
	}
	for i := range cfg.Clusters {
		path, c := item("clusters", i), &cfg.Clusters[i]
		deriveDiscovery(path+".discovery", &c.Discovery, r)
		deriveLoad(path+".load", &c.Load, r)
		deriveHealth(path+".health", &c.Health, r)
	}
}

func deriveDiscovery(path string, d *Discovery, r *report) {
	for i := range d.Static {
		b := &d.Static[i]
		if b.Name == "" {
			b.Name = b.Address
		}
	}
	if d.DNS != nil && d.DNS.Type != "SRV" && !r.given(path+".dns.port") {
		d.DNS.Port = defaultPort
	}
}

func deriveLoad(path string, l *BrokerLoad, r *report) {
	if !r.given(path + ".timeout") {
		l.Timeout = max(min(10*time.Second, l.Interval), leastTimeout)
	}
	if !r.given(path + ".window") {
		l.Window = max(5*time.Minute, l.Interval)
	}
}

func deriveHealth(path string, h *Health, r *report) {
	if !r.given(path + ".timeout") {
		h.Timeout = 3 * time.Second
		if h.Interval > 0 {
			h.Timeout = max(min(h.Timeout, h.Interval), leastTimeout)
		}
	}
	if h.MQTT == nil && h.HTTP == nil && h.TCP == nil {
		h.MQTT = new(MQTTProbe)
		setDefaults(reflect.ValueOf(h.MQTT).Elem())
	}
}

const (
	defaultPort  = 1883
	leastTimeout = 10 * time.Millisecond // as in the schema
)

// newListener returns a listener as an empty entry in the file would describe it.
func newListener() Listener {
	var l Listener
	setDefaults(reflect.ValueOf(&l).Elem())
	return l
}

// newCluster returns a cluster as an empty entry in the file would describe it.
func newCluster() Cluster {
	var c Cluster
	setDefaults(reflect.ValueOf(&c).Elem())
	return c
}

// newBackend returns a backend as an empty entry in the file would describe it.
func newBackend() Backend {
	var b Backend
	setDefaults(reflect.ValueOf(&b).Elem())
	return b
}
