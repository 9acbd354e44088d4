package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	// maxRecords bounds the backends of one name. An answer has room for thousands; no cluster has.
	maxRecords = 256
	// defaultDNSTimeout bounds one question with all its repetitions. The standard library asks every server
	// twice, and waits 5 s for each.
	defaultDNSTimeout = 10 * time.Second
	// leastSRV is the capacity of a target of weight 0 beside others of more: clients should go there hardly
	// ever (RFC 2782), but 0 would mean 1 to a balancer.
	leastSRV = 0.001
)

// DNS finds the backends behind a name. Answers are taken as a whole, at every interval, whatever the time to
// live of the records; UDP is used, and TCP when an answer does not fit.
//
// With type A or AAAA, each address is a backend with the configured port, and is its name: a broker that
// comes back with another address is another backend, and its clients find new homes. With the headless
// service of a StatefulSet, or wherever addresses change, type SRV is the better choice: each target is a
// backend, by the name of its host, and its port and address may change.
//
// Of SRV records those with the lowest priority value count, the others not at all: backups are not for
// carrying clients. Weights become capacities, relative to their mean; if all are equal, zero for example,
// every capacity is 1. If a target has several ports, host:port is the name of each.
//
// The search domains of /etc/resolv.conf apply to a name without a final dot, and /etc/hosts may answer for
// A and AAAA.
type DNS struct {
	// Name is the name to ask for. For SRV it is the whole name, such as _mqtt._tcp.example.
	Name string
	// Type is A, AAAA or SRV; empty means A.
	Type string
	// Port is the brokers' port with A and AAAA, 0 means 1883. SRV records have their own.
	Port uint16
	// Interval is the pause between two questions; 0 means 30 s.
	Interval time.Duration
	// Timeout bounds one question; 0 means 10 s.
	Timeout time.Duration
	// Server is the DNS server to ask, IP or IP:port; empty means those of the system.
	Server string
	// Allowed are the networks that backends may be in; none means any.
	Allowed []netip.Prefix
	// Observer may be nil.
	Observer Observer
	// Log may be nil.
	Log *slog.Logger

	resolver *net.Resolver
}

const defaultMQTTPort = 1883

// Run implements Source.
func (d *DNS) Run(ctx context.Context, sets chan<- []balancer.Backend) error {
	if d.Name == "" {
		return errors.New("discovery by DNS needs a name")
	}
	server, err := dnsServer(d.Server)
	if err != nil {
		return err
	}
	d.resolver = newResolver(server)
	fetch := d.srv
	switch strings.ToUpper(d.Type) {
	case "", "A":
		fetch = func(ctx context.Context) (answer, error) { return d.addresses(ctx, "ip4") }
	case "AAAA":
		fetch = func(ctx context.Context) (answer, error) { return d.addresses(ctx, "ip6") }
	case "SRV":
	default:
		return fmt.Errorf("discovery by DNS knows the types A, AAAA and SRV, not %q", d.Type)
	}
	r := &refresher{
		source: "dns", fetch: d.bounded(fetch), interval: orDefault(d.Interval, defaultInterval), most: maxRecords, allowed: d.Allowed,
		lookup: lookupBy(d.resolver), observer: d.Observer, journal: journal{log: logger(d.Log)},
	}
	return r.run(ctx, sets)
}

// bounded is fetch with a timeout.
func (d *DNS) bounded(fetch func(context.Context) (answer, error)) func(context.Context) (answer, error) {
	return func(ctx context.Context) (answer, error) {
		ctx, cancel := context.WithTimeout(ctx, orDefault(d.Timeout, defaultDNSTimeout))
		defer cancel()
		found, err := fetch(ctx)
		if err != nil {
			err = plainly(err)
		}
		return found, err
	}
}

// addresses asks for the addresses of a network, ip4 or ip6.
func (d *DNS) addresses(ctx context.Context, network string) (answer, error) {
	found, err := d.resolver.LookupNetIP(ctx, network, d.Name)
	if err != nil {
		return answer{}, err
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	slices.SortFunc(found, netip.Addr.Compare)
	var a answer
	for _, ip := range slices.Compact(found) {
		port := cmp.Or(d.Port, defaultMQTTPort)
		a.backends = append(a.backends, balancer.Backend{Name: ip.String(), Address: netip.AddrPortFrom(ip, port).String()})
	}
	return a, nil
}

// srv asks for the SRV records.
func (d *DNS) srv(ctx context.Context) (answer, error) {
	_, records, err := d.resolver.LookupSRV(ctx, "", "", d.Name)
	if len(records) == 0 {
		return answer{}, cmp.Or(err, errNobody)
	}
	var a answer
	if err != nil { // some records have invalid names; the rest of the answer is here all the same
		a.left = append(a.left, complaint{where: d.Name, why: err})
	}
	used := lowestPriority(records)
	capacities, ports := capacitiesOf(used), portsOf(used)
	for i := range used {
		target := used[i].Target
		b := balancer.Backend{Name: target, Address: net.JoinHostPort(target, strconv.Itoa(int(used[i].Port))), Capacity: capacities[i]}
		if ports[target] > 1 {
			b.Name = b.Address
		}
		a.backends = append(a.backends, b)
	}
	return a, nil
}

// lowestPriority returns the records to use, each target and port once, sorted by them. Letters of a name may
// come in any case, and a server may even shuffle them.
func lowestPriority(records []*net.SRV) []net.SRV {
	lowest := slices.MinFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) }).Priority
	var used []net.SRV
	for _, r := range records {
		target := strings.ToLower(strings.TrimSuffix(r.Target, "."))
		if r.Priority == lowest && target != "" { // the target "." says that there is no such service
			used = append(used, net.SRV{Target: target, Port: r.Port, Weight: r.Weight})
		}
	}
	slices.SortFunc(used, func(a, b net.SRV) int {
		// The greatest weight first: it is the one that stays.
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Port, b.Port), cmp.Compare(b.Weight, a.Weight))
	})
	return slices.CompactFunc(used, func(a, b net.SRV) bool { return a.Target == b.Target && a.Port == b.Port })
}

// capacitiesOf turns weights into capacities with a mean of 1.
func capacitiesOf(records []net.SRV) []float64 {
	capacities := make([]float64, len(records))
	sum, equal := 0, true
	for i := range records {
		sum += int(records[i].Weight)
		equal = equal && records[i].Weight == records[0].Weight
	}
	for i := range records {
		capacities[i] = 1
		if !equal {
			capacities[i] = max(float64(records[i].Weight)*float64(len(records))/float64(sum), leastSRV)
		}
	}
	return capacities
}

// portsOf counts the records of each target.
func portsOf(records []net.SRV) map[string]int {
	ports := make(map[string]int)
	for i := range records {
		ports[records[i].Target]++
	}
	return ports
}

// dnsServer returns the address of a server, with port 53 if it has none.
func dnsServer(server string) (string, error) {
	if server == "" {
		return "", nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(server, "[]")); err == nil {
		return netip.AddrPortFrom(ip, 53).String(), nil
	}
	at, err := netip.ParseAddrPort(server)
	if err != nil || at.Port() == 0 {
		return "", fmt.Errorf("the DNS server must be an IP address, with or without a port, such as 10.0.0.2:53, got %q", server)
	}
	return at.String(), nil
}
