package health

import (
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// A Report is what is known about a backend after one more check.
type Report struct {
	// Backend and Address are those of the backend that was checked.
	Backend, Address string
	// Up is the verdict: it takes Rise checks in a row to become true, Fall to become false, and for a
	// backend that has never been up, one. Changed tells that it differs from the Report before, or that
	// there was none.
	Up, Changed bool
	// Passed tells that this check passed. PassedChecks or FailedChecks, one of them 0, count those in a row.
	Passed                     bool
	PassedChecks, FailedChecks int
	// Drain and Unsettled are as in Result. A failed check that says nothing about them leaves them as they
	// were: a broker that is being emptied does not stop to be because one check failed.
	Drain, Unsettled bool
	// Err is why the check failed, empty if it passed. Note is a remark of one that passed. They may quote
	// what the broker said.
	Err, Note string
	// Version is the MQTT protocol level that the probe used, 0 if it used none.
	Version byte
	// Latency is how long the check took; for MQTT, that is dialling, CONNECT and CONNACK.
	Latency time.Duration
	// At is when the check ended. It has a monotonic reading.
	At time.Time
}

// AddTo fills in what health checks know of the vitals: Passed, FailedChecks, Unsettled, and Drain, which
// stays if somebody else has set it. Passed waits for Rise checks, which PhaseRules know nothing about;
// PhaseRules.FailedChecks should be Fall.
func (r *Report) AddTo(v *balancer.Vitals) {
	v.Passed = r.Passed && r.Up
	v.FailedChecks = r.FailedChecks
	v.Unsettled = r.Unsettled
	v.Drain = v.Drain || r.Drain
}

// A tally counts checks. The zero tally is that of a backend that was never checked.
type tally struct {
	passed, failed int  // in a row; one of them is 0
	up, wasUp      bool // the verdict; it has been up before
	checked        bool
}

// next is the tally after one more check.
func (t tally) next(passed bool, rise, fall int) tally {
	t.checked = true
	if !passed {
		t.passed, t.failed = 0, t.failed+1
		t.up = t.up && t.failed < fall
		return t
	}
	t.passed, t.failed = t.passed+1, 0
	t.up = t.up || t.passed >= rise || !t.wasUp
	t.wasUp = t.wasUp || t.up
	return t
}
