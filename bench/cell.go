package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readyTimeout bounds how long a proxy may take until it carries MQTT.
	readyTimeout = 15 * time.Second

	// readyProbes is how many clients must be accepted before a proxy counts as ready: enough to meet every backend.
	readyProbes = 24

	// loadTimeout is how much longer than its measured time a load may take.
	loadTimeout = establishTimeout + 30*time.Second

	// backends is how many brokers the proxies choose from.
	backends = 3
)

// A bench measures: it starts a stub broker, a proxy and a load generator, and ends them.
type bench struct {
	program string // this program, which is also the stub and the load generator
	folder  string // for configurations and output
	threads int    // of each proxy
	cpus    placement

	repeating time.Duration // what measurements that others have disturbed have taken once more
}

// A placement says which cores the proxy has and which everybody else; nil means all.
type placement struct{ proxy, others *unix.CPUSet }

// placeOn gives the proxies as many cores as they have threads when there are more than that. With fewer everybody
// shares, which is how the proxies meet each other's clients and brokers on a small machine.
func placeOn(cores, threads int) placement {
	if cores <= threads {
		return placement{}
	}
	p := placement{proxy: &unix.CPUSet{}, others: &unix.CPUSet{}}
	for i := range cores {
		if i < threads {
			p.proxy.Set(i)
		} else {
			p.others.Set(i)
		}
	}
	return p
}

// onOneCore is b with everything on the first core.
func (b *bench) onOneCore() *bench {
	one := *b
	first := &unix.CPUSet{}
	first.Set(0)
	one.cpus = placement{proxy: first, others: first}
	return &one
}

// measure is one measurement from the empty machine to the empty machine.
func (b *bench) measure(ctx context.Context, s system, over *overTLS, loadArgs []string, measured time.Duration) (_ loadResult, err error) {
	if _, err := enterNetwork(); err != nil {
		return loadResult{}, err
	}
	folder, err := os.MkdirTemp(b.folder, s.name+"-")
	if err != nil {
		return loadResult{}, err
	}

	broker, addresses, err := b.startStub(folder)
	if err != nil {
		return loadResult{}, err
	}
	defer broker.stop()
	target, args := addresses[0], loadArgs
	if s.name != direct {
		proxy, address, err := b.startProxy(s, over, addresses, folder)
		if err != nil {
			return loadResult{}, err
		}
		defer proxy.stop()
		if err := awaitReady(ctx, proxy, address, over); err != nil {
			return loadResult{}, fmt.Errorf("%s does not get ready: %w%s", s.name, err, proxy.tail())
		}
		if err := proxy.findWorkers(); err != nil {
			return loadResult{}, err
		}
		target = address
		args = append(args, "-proxy", joinPIDs(proxy.pids()))
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w%s", err, proxy.tail())
			}
		}()
	}
	args = append(args, "-target", target.String(), "-bystanders", joinPIDs(broker.pids()))
	return b.load(ctx, args, measured)
}

// startStub starts the stub broker and returns its addresses.
func (b *bench) startStub(folder string) (*process, []netip.AddrPort, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer read.Close()
	if err := read.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
		return nil, nil, errors.Join(err, write.Close())
	}
	p, err := start(launch{
		argv:   []string{b.program, "stub", "-ports", fmt.Sprint(backends)},
		folder: folder,
		cpus:   b.cpus.others,
		stdout: write,
	})
	if closed := write.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, nil, err
	}
	lines, err := linesUntil(read, stubReady)
	var addresses []netip.AddrPort
	for _, line := range lines {
		address, parseErr := netip.ParseAddrPort(line)
		err = errors.Join(err, parseErr)
		addresses = append(addresses, address)
	}
	if err != nil {
		p.stop()
		return nil, nil, fmt.Errorf("the stub broker does not start: %w%s", err, p.tail())
	}
	return p, addresses, nil
}

// startProxy starts a proxy in front of the brokers and returns the address that it will listen on.
func (b *bench) startProxy(s system, over *overTLS, brokers []netip.AddrPort, folder string) (*process, netip.AddrPort, error) {
	listen, err1 := freeAddress()
	admin, err2 := freeAddress()
	if err := errors.Join(err1, err2); err != nil {
		return nil, netip.AddrPort{}, err
	}
	c := proxyConfig{Listen: listen, Admin: admin, Backends: brokers, Threads: b.threads, Folder: folder}
	if over != nil {
		c.PEM = certificatePath(b.folder, over.key)
	}
	config, err := s.writeConfig(c)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	p, err := start(launch{
		argv:   append([]string{s.binary}, s.args(config, b.threads)...),
		folder: folder,
		cpus:   b.cpus.proxy,
	})
	return p, listen, err
}

// awaitReady waits until the proxy carries MQTT between clients and brokers.
func awaitReady(ctx context.Context, proxy *process, address netip.AddrPort, over *overTLS) error {
	const pause = 20 * time.Millisecond
	for deadline := time.Now().Add(readyTimeout); ; {
		err := probe(address, over)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if proxy.ended() {
			return fmt.Errorf("it ended by itself; last: %w", err)
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}

// probe has some clients connect and leave.
func probe(address netip.AddrPort, over *overTLS) error {
	if over != nil {
		return probeTLS(address, over)
	}
	p, err := newPoller()
	if err != nil {
		return err
	}
	defer p.close()
	d := newDialer(p, address, levelMQTT311)
	d.patience = time.Second
	fds, err := d.establish(nil, readyProbes)
	for _, fd := range fds {
		_, _ = send(fd, disconnectPacket)
	}
	closeAll(fds)
	return err
}

func probeTLS(address netip.AddrPort, over *overTLS) error {
	config, err := tlsConfig(over.version, over.group)
	if err != nil {
		return err
	}
	d := newTLSDialer(loadConfig{target: address, level: levelMQTT311, tls: config})
	for range readyProbes {
		s, err := d.open()
		if err != nil {
			return err
		}
		s.leave()
	}
	return nil
}

// load runs the load generator and returns what it saw.
func (b *bench) load(ctx context.Context, args []string, measured time.Duration) (loadResult, error) {
	ctx, cancel := context.WithTimeout(ctx, measured+loadTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	generator := exec.CommandContext(ctx, b.program, args...)
	generator.Stdout, generator.Stderr = &stdout, &stderr
	generator.SysProcAttr = childAttributes()
	err := startOn(b.cpus.others, generator.Start)
	if err == nil {
		err = generator.Wait()
	}
	if ctx.Err() != nil {
		return loadResult{}, ctx.Err()
	}
	if err != nil {
		return loadResult{}, fmt.Errorf("%s: %w: %s", strings.Join(args[:2], " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	var result loadResult
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
		return loadResult{}, fmt.Errorf("result of the load generator: %w", err)
	}
	if result.Work == 0 {
		return loadResult{}, errors.New("nothing happened in the measured time")
	}
	return result, nil
}

// neededDescriptors is how many descriptors a proxy may have open: two for each of 8000 sessions, and what HAProxy asks
// for in its configuration.
const neededDescriptors = 18_500

// raiseDescriptorLimit lets this process's children open as many files as the administrator allows. (Go raises the limit
// for itself and takes that back for its children, unless it is told.)
func raiseDescriptorLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("getrlimit: %w", err)
	}
	if limit.Max < neededDescriptors {
		return fmt.Errorf("a process may open %d files here, and the proxies need %d (ulimit -Hn)", limit.Max, neededDescriptors)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("setrlimit: %w", err)
	}
	return nil
}

// newBench makes ready what all measurements share. The returned function removes it.
func newBench(threads int) (*bench, func(), error) {
	if err := raiseDescriptorLimit(); err != nil {
		return nil, nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	folder, err := os.MkdirTemp("", "mqttlb-bench-")
	if err != nil {
		return nil, nil, err
	}
	remove := func() { _ = os.RemoveAll(folder) }
	if err := writeCertificates(folder); err != nil {
		remove()
		return nil, nil, err
	}
	b := &bench{
		program: filepath.Clean(program),
		folder:  folder,
		threads: threads,
		cpus:    placeOn(runtime.NumCPU(), threads),
	}
	return b, remove, nil
}
