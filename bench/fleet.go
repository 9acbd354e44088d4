package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// modeFleet stands for all scenarios in which something happens to a whole fleet of clients.
const modeFleet = "fleet"

// The fleet scenarios.
const (
	scenarioStorm   = "storm"
	scenarioBalance = "balance"
	scenarioRolling = "rolling"
)

// fleetScenarios are what happens to whole fleets of clients: a scenario has a measure of its own.
var fleetScenarios = []scenario{
	{
		name: scenarioStorm, title: "5000 clients lose their connections at once and come back at once",
		mode: modeFleet, rounds: 1, measure: measureStorm,
	},
	{
		name: scenarioBalance, title: "a fourth broker joins three with 1500 clients, 1 % of which reconnect per second; 32 s",
		mode: modeFleet, rounds: 1, only: fleetProxies, measure: measureBalance,
	},
	{
		name: scenarioRolling, title: "three brokers are restarted in turn under 600 clients and 20 groups of 6 consumers",
		mode: modeFleet, rounds: 1, only: fleetProxies, measure: measureRolling,
	},
}

// fleetProxies are the systems that the fleet scenarios know how to operate.
var fleetProxies = []string{haproxy, nginx, envoy, mqttlb}

func measureStorm(ctx context.Context, b *bench, s system, p *plan) (loadResult, error) {
	// CPU time and seconds count here, so one comes after the other.
	return b.measureFleet(ctx, s, p, scenarioStorm, 1)
}

func measureBalance(ctx context.Context, b *bench, s system, p *plan) (loadResult, error) {
	return b.measureFleet(ctx, s, p, scenarioBalance, len(fleetVariants[scenarioBalance][s.name]))
}

func measureRolling(ctx context.Context, b *bench, s system, p *plan) (loadResult, error) {
	return b.measureFleet(ctx, s, p, scenarioRolling, len(fleetVariants[scenarioRolling][s.name]))
}

// fleetVariants are the variants of each system by scenario.
var fleetVariants = map[string]map[string][]string{
	scenarioStorm: {
		direct:  {variantOwn},
		haproxy: {variantOwn, variantLimited},
		nginx:   {variantOwn},
		envoy:   {variantOwn},
		mqttlb:  {variantOwn, variantLimited},
	},
	scenarioBalance: {
		haproxy: {variantOwn, variantLeastConn, variantRoundRobin},
		nginx:   {variantOwn, variantLeastConn, variantRoundRobin},
		envoy:   {variantOwn, variantLeastConn, variantRoundRobin},
		mqttlb:  {variantOwn},
	},
	scenarioRolling: {
		haproxy: {variantOwn, variantLeastConn, variantRoundRobin, variantDrain},
		nginx:   {variantOwn, variantLeastConn, variantRoundRobin},
		envoy:   {variantOwn, variantLeastConn, variantRoundRobin},
		mqttlb:  {variantOwn, variantDrain, variantUpdate},
	},
}

// fleetTimeout bounds one play of one scenario.
const fleetTimeout = 4 * time.Minute

// measureFleet plays a scenario with all variants of a system, so many at a time. Each has its own network namespace and
// its own process, which is clients and brokers in one.
func (b *bench) measureFleet(ctx context.Context, s system, p *plan, scenario string, atOnce int) (loadResult, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetTimeout)
	defer cancel()
	variants := fleetVariants[scenario][s.name]
	began := time.Now()
	figures := make(map[string]float64)
	for len(variants) > 0 {
		batch := variants[:min(atOnce, len(variants))]
		variants = variants[len(batch):]
		plays := make([]*fleetPlay, len(batch))
		var err error
		for i, variant := range batch {
			// A child is in the namespace that the thread has at that moment.
			if plays[i], err = b.startFleet(ctx, s, p, scenario, variant); err != nil {
				cancel()
				break
			}
		}
		for _, play := range plays {
			if play != nil {
				err = errors.Join(err, play.collect(figures))
			}
		}
		if err != nil {
			return loadResult{}, err
		}
	}
	result := loadResult{Figures: figures}
	result.Elapsed = time.Since(began)
	return result, nil
}

// A fleetPlay is a running `bench fleet`.
type fleetPlay struct {
	variant        string
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func (b *bench) startFleet(ctx context.Context, s system, p *plan, scenario, variant string) (*fleetPlay, error) {
	if _, err := enterNetwork(); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(b.folder, s.name+"-")
	if err != nil {
		return nil, err
	}
	args := []string{
		"fleet", "-scenario", scenario, "-system", s.name, "-binary", s.binary, "-module", s.module, "-variant", variant,
		"-threads", fmt.Sprint(b.threads), "-folder", folder,
	}
	if p.quick {
		args = append(args, "-quick")
	}
	play := &fleetPlay{variant: variant, cmd: exec.CommandContext(ctx, b.program, args...)}
	play.cmd.Stdout, play.cmd.Stderr = &play.stdout, &play.stderr
	play.cmd.SysProcAttr = childAttributes()
	// It has a proxy to end.
	play.cmd.Cancel = func() error { return play.cmd.Process.Signal(syscall.SIGTERM) }
	play.cmd.WaitDelay = 5 * time.Second
	return play, play.cmd.Start()
}

// collect waits for the end and adds the figures, by name and variant.
func (f *fleetPlay) collect(figures map[string]float64) error {
	if err := f.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", f.variant, err, bytes.TrimSpace(f.stderr.Bytes()))
	}
	var found map[string]float64
	if err := json.Unmarshal(f.stdout.Bytes(), &found); err != nil {
		return fmt.Errorf("%s: its figures: %w", f.variant, err)
	}
	for name, value := range found {
		figures[name+"/"+f.variant] = value
	}
	return nil
}

// fleetFigure is a figure of one variant; where mqttlb has no such variant, its own placement stands beside the others'.
func fleetFigure(scenario, name, variant string, factor float64) func(results, string) float64 {
	return func(r results, system string) float64 {
		value := r.median(scenario, system, named(name+"/"+variant))
		if math.IsNaN(value) && system == mqttlb {
			value = r.median(scenario, system, named(name+"/"+variantOwn))
		}
		return value * factor
	}
}
