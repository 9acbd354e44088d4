package health

import (
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestReportsBecomeVitals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		report Report
		before balancer.Vitals
		want   balancer.Vitals
	}{
		{Report{Up: true, Passed: true, PassedChecks: 5}, balancer.Vitals{FailedChecks: 9}, balancer.Vitals{Passed: true}},
		{Report{Up: true, FailedChecks: 2}, balancer.Vitals{Passed: true, ConnectFailures: 3}, balancer.Vitals{FailedChecks: 2, ConnectFailures: 3}},
		{Report{Passed: true, PassedChecks: 1}, balancer.Vitals{}, balancer.Vitals{}}, // has not risen
		{Report{Up: true, Passed: true, Unsettled: true, Drain: true}, balancer.Vitals{}, balancer.Vitals{Passed: true, Unsettled: true, Drain: true}},
		{Report{Up: true, Passed: true}, balancer.Vitals{Drain: true, Unsettled: true}, balancer.Vitals{Passed: true, Drain: true}},
	} {
		got := test.before
		test.report.AddTo(&got)
		if got != test.want {
			t.Errorf("%+v: got %+v, want %+v", test.report, got, test.want)
		}
	}
}

// Through the phases: a backend that fails goes down after Fall checks and joins after Rise.
func TestReportsDriveThePhases(t *testing.T) {
	t.Parallel()
	rules := balancer.DefaultPhaseRules()
	var life balancer.Life
	var count tally
	var phases []balancer.Phase
	for i, passed := range []bool{true, false, false, false, true, true} {
		count = count.next(passed, DefaultRise, DefaultFall)
		r := Report{Up: count.up, Passed: passed, PassedChecks: count.passed, FailedChecks: count.failed}
		var v balancer.Vitals
		r.AddTo(&v)
		life = rules.Next(life, v, int64(i)*int64(DefaultInterval))
		phases = append(phases, life.Phase)
	}
	if want := []balancer.Phase{balancer.Ready, balancer.Ready, balancer.Ready, balancer.Down, balancer.Down, balancer.Joining}; !slices.Equal(phases, want) {
		t.Errorf("got %v, want %v", phases, want)
	}
}
