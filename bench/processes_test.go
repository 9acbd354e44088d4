package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// asProgram makes the test binary behave as the program, so that tests can start it as their child.
const asProgram = "MQTTLB_BENCH_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	m.Run()
}

// startTestStub starts a stub broker as run does; it ends with the test.
func startTestStub(t *testing.T) (*process, netip.AddrPort) {
	t.Helper()
	t.Setenv(asProgram, "1")
	// A child is sent SIGTERM when the thread that started it ends.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	b := &bench{program: os.Args[0]}
	stub, addresses, err := b.startStub(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stub.stop)
	if len(addresses) != backends {
		t.Fatalf("got addresses %v, want %d", addresses, backends)
	}
	return stub, addresses[backends-1]
}

func TestLoadsAgainstStub(t *testing.T) {
	stub, address := startTestStub(t)
	for _, load := range []string{
		"pingpong -connections 20", "pingpong -connections 3 -level 5 -payload 100000", "paced -connections 10 -rate 500",
		"connect -connections 4", "bulk", "idle -connections 30 -fewer 10 -settle 10ms",
		"grow -sizes 10,30 -settle 10ms",
	} {
		t.Run(strings.Fields(load)[0], func(t *testing.T) {
			pid := joinPIDs(stub.pids())
			args := append([]string{"load"}, strings.Fields(load)...)
			args = append(args, "-target", address.String(), "-proxy", pid, "-warmup", "10ms", "-duration", "300ms")
			var stdout, stderr bytes.Buffer
			generator := exec.CommandContext(t.Context(), os.Args[0], args...)
			generator.Stdout, generator.Stderr = &stdout, &stderr
			if err := generator.Run(); err != nil {
				t.Fatalf("%v: %s", err, stderr.String())
			}
			var r loadResult
			if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if r.Work <= 0 || r.Elapsed < 300*time.Millisecond || r.Largest < r.P99 || r.P99 < r.P50 {
				t.Errorf("got %+v", r)
			}
			if load == "grow -sizes 10,30 -settle 10ms" {
				if len(r.Figures) != 6 || r.Work != 30 || r.Figures[sized(residentAt, 30)] < 0 {
					t.Errorf("got %v of %v sessions", r.Figures, r.Work)
				}
				return
			}
			if isIdle := r.Memory != nil; !isIdle && r.CPU <= 0 || isIdle && r.Memory.More.Sessions != 30 {
				t.Errorf("got CPU %v, memory %+v", r.CPU, r.Memory)
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	stub, address := startTestStub(t)
	if err := awaitReady(t.Context(), stub, address, nil); err != nil {
		t.Errorf("a broker that is there: %v", err)
	}
	stub.stop()
	if !stub.ended() {
		t.Error("it has been stopped: want that it has ended")
	}
	if err := awaitReady(t.Context(), stub, address, nil); err == nil {
		t.Error("a broker that has ended: got no error")
	}
}

func TestWorkersEndWithTheirProcess(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// What the shell ignores its child ignores too.
	const script = `trap "" TERM; sleep 1000 & echo started; wait`
	p, err := start(launch{argv: []string{"/bin/sh", "-c", script}, folder: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); len(p.workers) == 0 && time.Now().Before(deadline); {
		if err := p.findWorkers(); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.workers) != 1 {
		t.Fatalf("got %d workers, want the sleep", len(p.workers))
	}
	p.stop()
	for _, pid := range p.pids() {
		// An orphan is a zombie until the system's first process has taken note of it.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			t.Errorf("process %d is still there: %s", pid, stat)
		}
	}
}

func TestExitStatus(t *testing.T) {
	tests := []struct {
		args string
		want int
	}{
		{"help", 0},
		{"run -help", 0},
		{"", 2},
		{"walk", 2},
		{"run -rounds 0", 2},
		{"run -only squid", 2},
		{"load grow -sizes 20,10", 2},
		{"report -from nowhere.json", 1},
		{"stub -listen nowhere", 2},
		{"load", 2},
		{"load pingpong -duration 10ms -connections 1 -target 127.0.0.1:1", 1},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		if got := command(strings.Fields(test.args), &stdout, &stderr); got != test.want {
			t.Errorf("bench %s: got status %d, want %d; stderr: %s", test.args, got, test.want, stderr.String())
		}
	}
}
