//go:build linux && amd64

package e2e

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A wallClock is the wall clock of a process, which can be set without touching the machine's, nor the
// monotonic clock of the process. Go reads both by a function of the kernel, whose address it keeps in a
// variable. Here a function takes its place that adds to the seconds of CLOCK_REALTIME. It lies where a
// function of Go was that is not needed after the start, and is changed while the process is stopped.
type wallClock struct {
	p    *process
	mem  *os.File
	at   int64 // address of the function
	real []byte
}

// clockOf prepares a process for its wall clock being set.
func clockOf(t *testing.T, p *process) *wallClock {
	t.Helper()
	binary := p.cmd.Path
	for _, arg := range p.cmd.Args {
		if arg == mqttlb {
			binary = arg
		}
	}
	file, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil || file.Type != elf.ET_EXEC {
		cannotSet(t, "the binary has no symbols")
	}
	address := make(map[string]int64)
	for _, s := range symbols {
		address[s.Name] = int64(s.Value)
	}
	variable, function := address["runtime.vdsoClockgettimeSym"], address["runtime.vdsoauxv"]
	if variable == 0 || function == 0 {
		cannotSet(t, "the Go runtime reads the clock in another way")
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", p.pid), os.O_RDWR, 0)
	if err != nil {
		cannotSet(t, err.Error())
	}
	t.Cleanup(func() { mem.Close() })
	w := &wallClock{p: p, mem: mem, at: function, real: make([]byte, 8)}
	if _, err := mem.ReadAt(w.real, variable); err != nil {
		t.Fatal(err)
	}
	w.set(t, 0)
	w.stopped(t, func() { w.write(t, leBytes(uint64(function)), variable) })
	return w
}

// cannotSet ends the test where a kernel forbids it; as a skip in any case if a binary without symbols is tested.
func cannotSet(t *testing.T, why string) {
	t.Helper()
	why = "the clock of a child cannot be set: " + why
	if os.Getenv("E2E_BINARY") != "" {
		t.Skip(why)
	}
	cannotRun(t, why)
}

// set makes the wall clock differ from the true time.
func (w *wallClock) set(t *testing.T, off time.Duration) {
	t.Helper()
	code := []byte{
		0x53,                   // push rbx
		0x55,                   // push rbp
		0x48, 0x83, 0xec, 0x08, // sub rsp, 8
		0x48, 0x89, 0xfb, // mov rbx, rdi: the clock
		0x48, 0x89, 0xf5, // mov rbp, rsi: the time
		0x48, 0xb8, // mov rax, …
	}
	code = append(code, w.real...)
	code = append(code,
		0xff, 0xd0, // call rax
		0x85, 0xdb, // test ebx, ebx: CLOCK_REALTIME is 0
		0x75, 0x0e, // jne to the end
		0x48, 0xb9, // mov rcx, …
	)
	code = append(code, leBytes(uint64(int64(off/time.Second)))...)
	code = append(code,
		0x48, 0x01, 0x4d, 0x00, // add [rbp], rcx
		0x48, 0x83, 0xc4, 0x08, // add rsp, 8
		0x5d, // pop rbp
		0x5b, // pop rbx
		0xc3, // ret
	)
	w.stopped(t, func() { w.write(t, code, w.at) })
}

func leBytes(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }

// stopped does something while the process does not run.
func (w *wallClock) stopped(t *testing.T, do func()) {
	t.Helper()
	w.p.freeze(t)
	do()
	w.p.signal(t, unix.SIGCONT)
}

func (w *wallClock) write(t *testing.T, b []byte, at int64) {
	t.Helper()
	if _, err := w.mem.WriteAt(b, at); err != nil {
		w.p.signal(t, unix.SIGCONT)
		cannotSet(t, err.Error())
	}
}

// Fault T1: the wall clock jumps. Nothing falls due because of that; not even the objects in S3, all of which
// have expired by a clock that is ahead, make mqttlb lose its brokers.
func TestFaultT1TheWallClockJumps(t *testing.T) {
	t.Parallel()
	names, port := hosts(t, 3)
	for _, name := range names {
		greeterOn(t, name, hostPort(name, port))
	}
	r := newBucket(t)
	r.expired = 30 * 24 * time.Hour // by any of the clocks
	r.list(names...)
	l := startLB(t, settings{
		discovery: r.source(port),
		cluster:   "health: {interval: 300ms, fall: 1}\nsettle: 1s\nlimits: {first_byte_timeout: 1s}",
	})
	l.reach(t, patience, "ready", names...)
	clock := clockOf(t, l.process)
	old := gather(t, l, "old", 100)
	offset := len(l.log.String())
	for i, jump := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 0} {
		clock.set(t, jump)
		marker := fmt.Sprint("young-", i)
		seen := len(l.log.String())
		gather(t, l, marker, 10).leave()
		line, _ := l.ended(t, marker+"-0", seen)
		at, err := time.Parse(time.RFC3339, line["time"])
		if off := time.Until(at) - jump; err != nil || off.Abs() > time.Minute {
			t.Fatalf("mqttlb's clock did not jump by %v: it logs %s", jump, line["time"])
		}
		asked := r.questions()
		eventually(t, patience, "S3 is asked", func() bool { return r.questions() > asked })
		l.stay(t, time.Second, "ready", names...)
	}
	if log := l.log.String()[offset:]; strings.Contains(log, "phase has changed") || strings.Contains(log, "stood still") {
		t.Error("phases have changed, or a standstill was seen")
	}
	old.unharmed(t)
}
