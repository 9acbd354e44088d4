package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	// lookupTimeout bounds the resolution of one host name, resolveTimeout that of all host names of a set.
	// A resolver that is down costs the second at most, and then every name keeps its address.
	lookupTimeout  = 5 * time.Second
	resolveTimeout = 15 * time.Second
	// maxLookups bounds how many host names are resolved at the same time.
	maxLookups = 16
)

// A lookupFunc resolves a host name.
type lookupFunc = func(ctx context.Context, host string) ([]netip.Addr, error)

// resolve returns the backends with IP addresses. A host name with several addresses stands for the lowest
// one, to be the same on every instance. Backends whose host name cannot be resolved now keep the address
// that they had, or else are missing; both are told.
func (r *refresher) resolve(ctx context.Context, good []balancer.Backend) (set []balancer.Backend, left []complaint) {
	ips := r.lookUpAll(ctx, good)
	for i := range good {
		b := good[i]
		host, port, _ := splitHostPort(b.Address) // vet has made sure of it
		ip, err := netip.ParseAddr(host)
		if err != nil {
			ip, err = ips[host].ip, ips[host].err
		}
		if err == nil {
			err = r.permit(ip)
			b.Address = netip.AddrPortFrom(ip, port).String()
		} else if old := r.lastOf(b.Name); old != "" {
			left = append(left, complaint{backend: b.Name, where: host, why: err, kept: true})
			b.Address, err = old, nil
		}
		if err != nil {
			left = append(left, complaint{backend: b.Name, where: host, why: err})
			continue
		}
		set = append(set, b)
	}
	return set, left
}

// lastOf is the address that a backend had, empty if it had none.
func (r *refresher) lastOf(name string) string {
	i := slices.IndexFunc(r.last, func(b balancer.Backend) bool { return b.Name == name })
	if i < 0 {
		return ""
	}
	return r.last[i].Address
}

// permit refuses an IP address that no backend may have.
func (r *refresher) permit(ip netip.Addr) error {
	if err := checkIP(ip); err != nil {
		return err
	}
	if len(r.allowed) > 0 && !slices.ContainsFunc(r.allowed, func(p netip.Prefix) bool { return p.Contains(ip.WithZone("")) }) {
		return fmt.Errorf("%v is in none of the networks that backends may be in", ip)
	}
	return nil
}

// A lookup is the result of looking up one host name.
type lookup struct {
	ip  netip.Addr
	err error
}

// lookUpAll resolves each host name once, several at a time.
func (r *refresher) lookUpAll(ctx context.Context, good []balancer.Backend) map[string]lookup {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, asked := make(map[string]lookup), make(map[string]bool)
	var mu sync.Mutex // of found
	var running sync.WaitGroup
	places := make(chan struct{}, maxLookups)
	for i := range good {
		host, _, _ := splitHostPort(good[i].Address)
		if _, err := netip.ParseAddr(host); err == nil || asked[host] {
			continue
		}
		asked[host] = true
		places <- struct{}{}
		running.Go(func() {
			ip, err := r.lookUp(ctx, host)
			mu.Lock()
			found[host] = lookup{ip, err}
			mu.Unlock()
			<-places
		})
	}
	running.Wait()
	return found
}

// lookUp resolves one host name.
func (r *refresher) lookUp(ctx context.Context, host string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, err := r.lookup(ctx, host)
	if err != nil {
		return netip.Addr{}, plainly(err)
	}
	if len(addrs) == 0 {
		return netip.Addr{}, errors.New("the name has no address")
	}
	lowest := addrs[0].Unmap()
	for _, a := range addrs[1:] {
		if a = a.Unmap(); a.Less(lowest) {
			lowest = a
		}
	}
	return lowest, nil
}

// newResolver returns a resolver that asks one server, or those of the system if it is empty. It gives up as
// soon as its context is done; the standard one goes on in the background until its own timeout.
func newResolver(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, ofSystem string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, cmp.Or(server, ofSystem))
		if err == nil {
			context.AfterFunc(ctx, func() { conn.Close() }) // the resolver ends this context with the question
		}
		return conn, err
	}}
}

// orSystem returns a function to resolve host names, with the system's settings if there is none.
func orSystem(lookup lookupFunc) lookupFunc {
	if lookup != nil {
		return lookup
	}
	return lookupBy(newResolver(""))
}

func lookupBy(r *net.Resolver) lookupFunc {
	return func(ctx context.Context, host string) ([]netip.Addr, error) { return addressesOf(ctx, r, host) }
}

// addressesOf asks for IPv4 addresses and, only if there are none, for those of IPv6. Asking for both at
// once, as the standard library does, takes a failure to get the first kind for an answer with the second
// kind alone; a backend would wander between two addresses.
func addressesOf(ctx context.Context, from *net.Resolver, host string) ([]netip.Addr, error) {
	addrs, err := from.LookupNetIP(ctx, "ip4", host)
	if err == nil || !hasNone(err) {
		return addrs, err
	}
	return from.LookupNetIP(ctx, "ip6", host)
}

// hasNone tells whether err means that there are no records, in contrast to no answer.
func hasNone(err error) bool {
	if fromDNS, ok := errors.AsType[*net.DNSError](err); ok {
		return fromDNS.IsNotFound
	}
	_, ok := errors.AsType[*net.AddrError](err) // the hosts file has the name, but with addresses of the other kind
	return ok
}

// A lookupError is an error of a resolver in few words: without the server and the local port, which are
// different each time, so that the log can tell what is news.
type lookupError struct {
	name, text string
	err        error
}

func (e *lookupError) Error() string { return "lookup " + e.name + ": " + e.text }
func (e *lookupError) Unwrap() error { return e.err }

// plainly turns an error of net.Resolver into a lookupError.
func plainly(err error) error {
	fromDNS, ok := errors.AsType[*net.DNSError](err)
	if !ok {
		return err
	}
	text := fromDNS.Err
	socket, failed := errors.AsType[*net.OpError](err)
	switch {
	case fromDNS.IsTimeout:
		text = "no answer in time"
	case fromDNS.IsNotFound:
		text = "no such host, or no record of the type"
	case failed && socket.Err != nil:
		text = socket.Op + " " + socket.Net + ": " + socket.Err.Error()
	}
	return &lookupError{fromDNS.Name, text, err}
}
