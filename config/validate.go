package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

const (
	// maxName bounds names: they are labels of metrics and columns of tables.
	maxName = 128
	// maxSocketPath is what Linux leaves of the 108 bytes of sun_path (unix(7)).
	maxSocketPath = 107
)

// validate checks the rules that look at more than a type and a range. Those
// are in the tags of the schema; see checkValues.
func validate(cfg *Config, r *report) {
	validateInstance(&cfg.Instance, r)
	validateAdmin(&cfg.Admin, r)
	validateListeners(cfg, r)
	validateClusters(cfg, r)
}

func validateInstance(in *Instance, r *report) {
	if in.Name != "" {
		checkName("instance.name", in.Name, r)
	}
	if in.Index >= in.Count && in.Count > 0 && !r.spoiled("instance.count") {
		r.at("instance.index", "must be below instance.count, which is %d, got %d; the first of %d instances has index 0", in.Count, in.Index, in.Count)
	}
	if in.HashKey == redacted {
		r.at("instance.hash_key", "is the placeholder of a printed configuration; write the secret itself")
	}
}

func validateAdmin(a *Admin, r *report) {
	if a.Address != "" {
		checkAddress("admin.address", a.Address, adminRule(), r)
	}
	if len(a.Socket) > maxSocketPath {
		r.at("admin.socket", "must be at most %d bytes long, got %d; Linux allows no longer paths for sockets", maxSocketPath, len(a.Socket))
	}
}

func validateListeners(cfg *Config, r *report) {
	type listening struct {
		address
		path string
	}
	var taken []listening
	if a, _, ok := parseAddress(cfg.Admin.Address, adminRule()); ok {
		taken = append(taken, listening{a, "admin.address"})
	}
	names := names{uniqueness{what: "each listener needs a name of its own"}}
	for i, l := range cfg.Listeners {
		path := item("listeners", i)
		a, ok := checkAddress(path+".address", l.Address, listenRule(), r)
		if ok {
			if j := slices.IndexFunc(taken, func(t listening) bool { return a.overlaps(t.address) }); j >= 0 {
				r.at(path+".address", "cannot be %q, which is taken by %s; choose another port", l.Address, r.reference(taken[j].path))
				ok = false
			}
			taken = append(taken, listening{a, path + ".address"})
		}
		if ok || l.Name != l.Address { // a name derived from a wrong address is no second mistake
			names.check(path+".name", l.Name, r)
		}
		validateRoutes(path, &cfg.Listeners[i], cfg.Clusters, r)
		validateListenerTLS(path+".tls", &l.TLS, r)
		validateWebSocket(path, &cfg.Listeners[i], r)
	}
}

// checkCluster checks that a listener names a cluster that exists.
func checkCluster(path, cluster string, clusters []Cluster, r *report) {
	if r.unread[""] || r.unread["clusters"] || len(clusters) == 0 {
		return
	}
	var all []string
	for i, c := range clusters {
		if c.Name != "" {
			all = append(all, c.Name)
		}
		if at := item("clusters", i); c.Name == cluster || r.unread[at] || r.unread[at+".name"] {
			return // it exists, or one whose name could not be read may be meant
		}
	}
	list := "the clusters are called " + strings.Join(all, ", ")
	switch meant := nearest(cluster, all); {
	case cluster == "":
		r.at(path, "is missing, and there is more than one cluster; %s", list)
	case meant != "":
		r.at(path, "is %q, but no cluster has that name; did you mean %q?", cluster, meant)
	default:
		r.at(path, "is %q, but no cluster has that name; %s", cluster, list)
	}
}

func validateClusters(cfg *Config, r *report) {
	names := names{uniqueness{what: "each cluster needs a name of its own"}}
	for i, c := range cfg.Clusters {
		path := item("clusters", i)
		if c.Name == "" {
			r.at(path+".name", "is missing; with more than one cluster each needs a name")
		} else {
			names.check(path+".name", c.Name, r)
		}
		validateDiscovery(path+".discovery", &c.Discovery, r)
		validatePlacement(path+".placement", &c.Placement, r)
		validateRedirect(path, &cfg.Clusters[i], r)
		validateLoad(path+".load", &c.Load, r)
		validateHealth(path+".health", &c.Health, r)
		validateProxyProtocol(path+".proxy_protocol", &c.ProxyProtocol, r)
		validateClusterTLS(path+".tls", &c.TLS, r)
		validateSources(path+".source_addresses", c.SourceAddresses, r)
	}
}

func validateSources(path string, list []IP, r *report) {
	unique := uniqueness{what: "each address has its ports once"}
	for i, ip := range list {
		at := item(path, i)
		if a, err := netip.ParseAddr(string(ip)); err == nil && a.IsUnspecified() {
			r.at(at, "must be an address that this host has, got %q; without source_addresses the kernel chooses one", ip)
		}
		unique.check(at, string(ip), r)
	}
}

func validateProxyProtocol(path string, p *ProxyProtocol, r *report) {
	types := uniqueness{what: "use another type from 0xE0 to 0xEF, brokers keep one value of each"}
	for i, tlv := range p.Custom {
		path := item(path+".custom", i)
		types.check(path+".type", fmt.Sprintf("0x%02X", tlv.Type), r)
		checkValue(path+".value", tlv.Value, r)
	}
}

// checkName checks that a name can stand in a command, a URL and a table.
func checkName(path, name string, r *report) bool {
	if len(name) > maxName {
		r.at(path, "must be at most %d bytes long, got %d", maxName, len(name))
		return false
	}
	for _, c := range name {
		if !unicode.IsPrint(c) || c == ' ' || c == '/' {
			r.at(path, "must not contain %q, got %q; use letters, digits, dots and dashes", c, name)
			return false
		}
	}
	return true
}

// uniqueness finds values that appear twice.
type uniqueness struct {
	what string            // to do about it
	seen map[string]string // value to path
}

// check reports whether value is the first of its kind.
func (u *uniqueness) check(path, value string, r *report) bool {
	if r.spoiled(path) {
		return true
	}
	if first, ok := u.seen[value]; ok {
		r.at(path, "repeats %q of %s; %s", value, r.reference(first), u.what)
		return false
	}
	if u.seen == nil {
		u.seen = map[string]string{}
	}
	u.seen[value] = path
	return true
}

// names finds names that cannot be used or appear twice.
type names struct{ uniqueness }

func (n *names) check(path, name string, r *report) {
	if checkName(path, name, r) {
		n.uniqueness.check(path, name, r)
	}
}
