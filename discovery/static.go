package discovery

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// Static is a list of backends from the configuration. Host names in it are resolved again and again,
// so that a broker may change its address under a name; a name with several addresses uses one of them,
// the lowest, IPv4 before IPv6, to be the same on every instance.
type Static struct {
	// Backends have host:port as Address; an empty Name stands for the address.
	Backends []balancer.Backend
	// Interval is the pause between two resolutions of host names; 0 means 30 s.
	Interval time.Duration
	// Allowed are the networks that backends may be in; none means any.
	Allowed []netip.Prefix
	// Lookup resolves a host name; nil uses the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Observer may be nil.
	Observer Observer
	// Log may be nil.
	Log *slog.Logger
}

const defaultInterval = 30 * time.Second

// Run implements Source.
func (s *Static) Run(ctx context.Context, sets chan<- []balancer.Backend) error {
	r := &refresher{
		source: "static", fetch: s.fetch, interval: orDefault(s.Interval, defaultInterval), most: math.MaxInt,
		allowed: s.Allowed, lookup: orSystem(s.Lookup), observer: s.Observer, journal: journal{log: logger(s.Log)},
	}
	return r.run(ctx, sets)
}

func (s *Static) fetch(context.Context) (answer, error) { return answer{backends: s.Backends}, nil }
