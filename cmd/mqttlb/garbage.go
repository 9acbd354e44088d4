package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A TLS handshake leaves some 40 KB of garbage behind, and a session over TLS keeps about 4 KB on the heap; sessions
// without TLS are next to nothing for the garbage collector. With Go's rule, by which as much garbage may pile up as there
// is memory in use, a small process collects every hundred handshakes, and a large one holds twice the memory that it
// needs. So a process with TLS has rules of its own: there may be garbage of garbageAllowance and, if much memory is in
// use, of half as much as that; and when a burst of handshakes is over, what is left of it is collected and given back to
// the system.
const (
	garbageAllowance = 16 << 20 // bytes
	// The bounds of GOGC, in percent of the memory in use.
	leastGarbage, mostGarbage = 50, 400
	usualGarbage              = 100

	garbageInterval = 500 * time.Millisecond
	// quietGarbage is how many bytes are allocated in an interval in which next to nobody shakes hands.
	quietGarbage = 512 << 10
)

// garbagePercent is GOGC for so many bytes in use.
func garbagePercent(live uint64) int {
	return int(min(max(100*garbageAllowance/max(live, 1), leastGarbage), mostGarbage))
}

// A garbageWatch keeps to the rules.
type garbageWatch struct {
	percent   int    // GOGC as it is
	allocated uint64 // bytes, ever, when it looked last
	tidied    uint64 // the same when it collected last
}

// look decides what to do from how many bytes are in use and have ever been allocated. percent is GOGC from now on; tidy
// says to collect.
func (w *garbageWatch) look(live, allocated uint64) (percent int, tidy bool) {
	percent = garbagePercent(live)
	// A change stops the world for a moment, so it has to be worth it.
	if change := percent - w.percent; percent != leastGarbage && max(change, -change) < w.percent/8 {
		percent = w.percent
	}
	quiet := allocated-w.allocated < quietGarbage
	tidy = quiet && allocated-w.tidied > max(garbageAllowance/2, live/4)
	w.percent, w.allocated = percent, allocated
	if tidy {
		w.tidied = allocated
	}
	return percent, tidy
}

// watchGarbage keeps to the rules, while there is TLS, until ctx is done. Who sets GOGC has their own way.
func (a *app) watchGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	defer func() { debug.SetGCPercent(usualGarbage) }()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	w := garbageWatch{percent: usualGarbage}
	every(ctx, garbageInterval, func() {
		if !a.hasTLS() {
			return
		}
		metrics.Read(sample)
		was := w.percent
		percent, tidy := w.look(sample[0].Value.Uint64(), sample[1].Value.Uint64())
		if percent != was {
			debug.SetGCPercent(percent)
		}
		if tidy {
			debug.FreeOSMemory()
		}
	})
}

// hasTLS tells whether a listener or a cluster has TLS that mqttlb takes part in.
func (a *app) hasTLS() bool {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	for _, t := range a.tls.listeners {
		if t.server != nil {
			return true
		}
	}
	return len(a.tls.clients) > 0
}
