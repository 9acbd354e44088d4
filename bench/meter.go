package main

import (
	"errors"
	"os"
	"runtime"
	"time"
)

// A meter reads what the processes of a measurement have used. It works inside the load generator, so that the measured
// time begins and ends exactly with the CPU readings and without a message to another process between.
type meter struct {
	proxy      []int // pids of the proxy; none when there is none
	bystanders []int // pids that take part but are not measured: the stub broker
}

// A reading is the state of all clocks at one moment.
type reading struct {
	at      time.Time
	proxy   time.Duration
	ticks   time.Duration // the proxy's, as /proc/PID/stat has it
	ours    time.Duration // of all processes of the measurement
	machine machineCPU
}

// A usage is the difference of two readings.
type usage struct {
	Elapsed time.Duration `json:"elapsed_ns"`
	CPU     time.Duration `json:"cpu_ns"`   // of the proxy
	Ticks   time.Duration `json:"ticks_ns"` // the same from a coarse clock, to check
	Others  float64       `json:"others"`   // cores used by processes that are no part of the measurement
	Stolen  float64       `json:"stolen"`   // cores that the hypervisor gave to others
}

func (m meter) read() (reading, error) {
	r := reading{at: time.Now()}
	var errs [5]error
	r.proxy, errs[0] = sumOver(m.proxy, processCPU)
	r.ticks, errs[1] = sumOver(m.proxy, processTicks)
	bystanders, err := sumOver(m.bystanders, processCPU)
	errs[2] = err
	own, err := processCPU(os.Getpid())
	errs[3] = err
	r.machine, errs[4] = readMachineCPU()
	r.ours = r.proxy + bystanders + own
	return r, errors.Join(errs[:]...)
}

// since is what was used from start to r.
func (r reading) since(start reading) usage {
	elapsed := r.at.Sub(start.at)
	busy := r.machine.busy - start.machine.busy
	cores := func(d time.Duration) float64 {
		return min(max(d.Seconds()/elapsed.Seconds(), 0), float64(runtime.NumCPU()))
	}
	return usage{
		Elapsed: elapsed,
		CPU:     r.proxy - start.proxy,
		Ticks:   r.ticks - start.ticks,
		Others:  cores(busy - (r.ours - start.ours)),
		Stolen:  cores(r.machine.stolen - start.machine.stolen),
	}
}

// disturbance is how many cores were taken by others.
func (u usage) disturbance() float64 { return u.Others + u.Stolen }
