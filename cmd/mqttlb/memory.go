package main

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	mqttlbmetrics "github.com/mqttlb/mqttlb/metrics"
)

// pressure is how near the process is to its limit of memory.
type pressure int32

// The pressures, with what is done about each.
const (
	relaxed  pressure = iota
	tight             // new clients are refused
	critical          // … and those closed that have not sent their CONNECT
)

// String is the word in the log.
func (p pressure) String() string {
	switch p {
	case relaxed:
		return "relaxed"
	case tight:
		return "tight"
	case critical:
		return "critical"
	}
	return "unknown"
}

// The watermarks, as parts of the limit (protocol.md, 8). Where a pressure ends is below where it begins: clients that
// come as soon as there is room again would bring it back at once.
const (
	tightFrom, tightUntil       = 0.80, 0.75
	criticalFrom, criticalUntil = 0.90, 0.85
)

// next is the pressure after p at this part of the limit.
func (p pressure) next(share float64) pressure {
	switch {
	case share >= criticalFrom, p == critical && share >= criticalUntil:
		return critical
	case share >= tightFrom, p >= tight && share >= tightUntil:
		return tight
	}
	return relaxed
}

const (
	memoryInterval = time.Second
	// collectPause is the time between two collections of garbage that the memory watch asks for.
	collectPause = 5 * time.Second
	// goShare is the part of the limit of the cgroup that the Go runtime tries to keep to. The rest is for what it does
	// not know of, sockets above all.
	goShare = 0.9
)

// A memoryWatch keeps the process from being killed for want of memory.
type memoryWatch struct {
	group  *memoryGroup // nil without a limit of the cgroup
	limit  uint64       // bytes; 0 without any limit
	goOnly bool         // the limit is GOMEMLIMIT
	used   atomic.Uint64
	level  atomic.Int32 // pressure

	measure   func() uint64
	collect   func()
	collected time.Time
}

// newMemoryWatch finds out how much memory there is. Unless somebody has said by GOMEMLIMIT what the Go runtime may use,
// it is told.
func newMemoryWatch(log *slog.Logger) *memoryWatch {
	w := &memoryWatch{collect: debug.FreeOSMemory}
	w.measure = w.inUse
	goLimit := debug.SetMemoryLimit(-1)
	w.group = findMemoryGroup(os.DirFS("/"))
	if w.group != nil {
		w.limit = w.group.limit
	}
	switch {
	case goLimit != math.MaxInt64:
		if w.limit == 0 || uint64(goLimit) < w.limit {
			w.limit, w.goOnly = uint64(goLimit), true
		}
		log.Info("memory is limited", slog.Uint64("limit", w.limit), slog.Int64("gomemlimit", goLimit))
	case w.limit > 0:
		goLimit = int64(goShare * float64(w.limit))
		debug.SetMemoryLimit(goLimit)
		log.Info("memory is limited", slog.Uint64("limit", w.limit), slog.Int64("gomemlimit", goLimit))
	}
	return w
}

// inUse is what counts towards the limit, in bytes.
func (w *memoryWatch) inUse() uint64 {
	if w.group != nil && !w.goOnly {
		if n, ok := w.group.used(); ok {
			return n
		}
	}
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64() - sample[1].Value.Uint64()
}

// check measures and returns the pressure before and now. Now and then, before it believes in pressure, it has the
// garbage collected, which may be most of what is used.
func (w *memoryWatch) check(now time.Time) (was, is pressure) {
	was = pressure(w.level.Load())
	used := w.measure()
	is = was.next(float64(used) / float64(w.limit))
	if is > relaxed && now.Sub(w.collected) >= collectPause {
		w.collected = now
		w.collect()
		used = w.measure()
		is = was.next(float64(used) / float64(w.limit))
	}
	w.used.Store(used)
	w.level.Store(int32(is))
	return was, is
}

// figures are for the metrics.
func (w *memoryWatch) figures() mqttlbmetrics.Memory {
	used := w.used.Load()
	if used == 0 {
		used = w.measure()
	}
	return mqttlbmetrics.Memory{Used: used, Limit: w.limit, Pressure: int(w.level.Load())}
}

// watchMemory does what the pressure asks for, until ctx is done.
func (a *app) watchMemory(ctx context.Context) {
	w := a.memory
	every(ctx, memoryInterval, func() {
		was, is := w.check(time.Now())
		shed := 0
		a.proxy.Refuse(is >= tight)
		if is == critical {
			shed = a.proxy.ShedPending()
		}
		if is == was {
			return
		}
		what := []any{slog.String("pressure", is.String()), slog.Uint64("used", w.used.Load()), slog.Uint64("limit", w.limit)}
		switch is {
		case critical:
			a.log.Error("memory is nearly used up: new clients are refused, and those without a CONNECT closed", append(what, slog.Int("closed", shed))...)
		case tight:
			a.log.Warn("memory is scarce: new clients are refused", what...)
		case relaxed:
			a.log.Info("there is memory for new clients again", what...)
		}
	})
}
