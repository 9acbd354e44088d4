package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Variants of a system in the fleet scenarios. Where a system has but one way it is the first.
const (
	variantOwn        = "own" // mqttlb: the default placement; the others: a consistent hash
	variantLeastConn  = "leastconn"
	variantRoundRobin = "roundrobin"
	variantLimited    = "limited" // own, and the rate of CONNECTs is limited
	variantDrain      = "drain"   // brokers are emptied before they are stopped: mqttlb own, HAProxy least connections
	variantUpdate     = "update"  // the same, and mqttlb is told that restarted brokers have another version
)

const (
	fleetLimit    = 500 // CONNECTs per second in variantLimited
	fleetMoveRate = 50  // clients per second that mqttlb may move
	fleetRamp     = 5   // seconds of slow start
)

// A fleetConfig is what the templates of the fleet scenarios are filled with.
type fleetConfig struct {
	proxyConfig
	Variant  string
	Active   int // how many of the backends are in use
	Updated  int // how many of them have the new version, in variantUpdate
	Limit    int
	MoveRate int
	MinAge   int // seconds that mqttlb leaves a client where it is
	Ramp     int
}

// A fleetProxy is a running proxy that can be operated while clients are connected.
type fleetProxy struct {
	*process
	system system
	config fleetConfig
}

// The files of a system's configuration by template.
var fleetTemplates = map[string][]string{
	haproxy: {"fleet-haproxy.cfg.tmpl"},
	nginx:   {"fleet-nginx.conf.tmpl"},
	envoy:   {"fleet-envoy.yaml.tmpl", "fleet-endpoints.yaml.tmpl"},
	mqttlb:  {"fleet-mqttlb.yaml.tmpl", "fleet-backends.yaml.tmpl"},
}

// fleetArgs are the arguments of each system for the path of its configuration.
var fleetArgs = map[string]func(config string, threads int) []string{
	haproxy: func(config string, _ int) []string { return []string{"-db", "-f", config} },
	nginx:   func(config string, _ int) []string { return []string{"-e", "stderr", "-c", config} },
	envoy: func(config string, threads int) []string {
		return []string{"-c", config, "--concurrency", strconv.Itoa(threads), "--disable-hot-restart", "--log-level", "error"}
	},
	mqttlb: func(config string, _ int) []string { return []string{"run", "-c", config} },
}

// startFleetProxy starts a proxy in front of the first active of the brokers and returns when it works.
func startFleetProxy(ctx context.Context, s system, c fleetConfig) (*fleetProxy, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	c.Listen, c.Module = listen, s.module
	c.Limit, c.MoveRate, c.Ramp = fleetLimit, fleetMoveRate, fleetRamp
	p := &fleetProxy{system: s, config: c}
	main, err := p.writeConfig()
	if err != nil {
		return nil, err
	}
	if p.process, err = start(launch{argv: append([]string{s.binary}, fleetArgs[s.name](main, c.Threads)...), folder: c.Folder}); err != nil {
		return nil, err
	}
	err = awaitReady(ctx, p.process, listen, nil)
	if err == nil {
		err = p.findWorkers()
	}
	if err != nil {
		p.stop()
		return nil, fmt.Errorf("%s does not get ready: %w%s", s.name, err, p.tail())
	}
	return p, nil
}

// writeConfig writes all files of the configuration, each in one step, and returns the path of the first.
func (p *fleetProxy) writeConfig() (string, error) {
	var first string
	for _, name := range fleetTemplates[p.system.name] {
		var text bytes.Buffer
		if err := templates.ExecuteTemplate(&text, name, p.config); err != nil {
			return "", err
		}
		path := filepath.Join(p.config.Folder, strings.TrimSuffix(strings.TrimPrefix(name, "fleet-"), ".tmpl"))
		if err := os.WriteFile(path+".new", text.Bytes(), 0o644); err != nil {
			return "", err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return "", err
		}
		if first == "" {
			first = path
		}
	}
	return first, nil
}

// address is where clients connect.
func (p *fleetProxy) address() netip.AddrPort { return p.config.Listen }

// addBackend puts the next of the brokers into use, in the way that the system has for it.
func (p *fleetProxy) addBackend(ctx context.Context) error {
	added := fmt.Sprintf("n%d", p.config.Active)
	p.config.Active++
	if p.system.name == haproxy {
		return p.haproxySays(ctx, "set server mqtt/"+added+" state ready")
	}
	if _, err := p.writeConfig(); err != nil {
		return err
	}
	if p.system.name == nginx {
		return p.cmd.Process.Signal(syscall.SIGHUP)
	}
	return nil // the others watch their files
}

// drain empties a broker and returns when it is empty.
func (p *fleetProxy) drain(ctx context.Context, broker int) error {
	name := fmt.Sprintf("n%d", broker)
	switch p.system.name {
	case haproxy:
		return errors.Join(
			p.haproxySays(ctx, "set server mqtt/"+name+" state drain"),
			p.haproxySays(ctx, "shutdown sessions server mqtt/"+name),
		)
	case mqttlb:
		return p.mqttlbDoes(ctx, "drain", name, "--rate", fmt.Sprintf("%d/s", fleetMoveRate), "--wait")
	}
	return fmt.Errorf("%s has no way to empty a broker", p.system.name)
}

// resume takes a broker that was drained into use again.
func (p *fleetProxy) resume(ctx context.Context, broker int) error {
	if p.config.Variant == variantUpdate {
		p.config.Updated = broker + 1
		if _, err := p.writeConfig(); err != nil {
			return err
		}
	}
	name := fmt.Sprintf("n%d", broker)
	if p.system.name == haproxy {
		return p.haproxySays(ctx, "set server mqtt/"+name+" state ready")
	}
	return p.mqttlbDoes(ctx, "resume", name)
}

// mqttlbDoes runs one of mqttlb's commands.
func (p *fleetProxy) mqttlbDoes(ctx context.Context, args ...string) error {
	args = append(args, "--admin", "unix:"+filepath.Join(p.config.Folder, "admin.sock"))
	said, err := exec.CommandContext(ctx, p.system.binary, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mqttlb %s: %w: %s", args[0], err, bytes.TrimSpace(said))
	}
	return nil
}

// haproxySays gives a command to HAProxy's runtime API, which answers an empty line when it has done it.
func (p *fleetProxy) haproxySays(ctx context.Context, command string) error {
	const patience = 5 * time.Second
	d := net.Dialer{Timeout: patience}
	conn, err := d.DialContext(ctx, "unix", filepath.Join(p.config.Folder, "haproxy.sock"))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, command); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if answer = bytes.TrimSpace(answer); err == nil && len(answer) > 0 {
		err = errors.New(string(answer))
	}
	if err != nil {
		return fmt.Errorf("haproxy: %s: %w", command, err)
	}
	return nil
}
