package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The modes of the load generator.
const (
	modeIdle     = "idle"
	modePingPong = "pingpong"
	modePaced    = "paced"
	modeConnect  = "connect"
	modeBulk     = "bulk"
	modeGrow     = "grow"
)

// A loadConfig says what to do; each mode takes what it needs.
type loadConfig struct {
	target      netip.AddrPort
	level       byte // MQTT protocol level
	connections int
	fewer       int           // idle: the smaller number of connections
	sizes       []int         // grow: numbers of connections
	rate        int           // paced: round trips per second, all connections together
	inFlight    int           // bulk: messages under way per connection
	payload     int           // bytes per message
	warmup      time.Duration // the same load, not measured
	duration    time.Duration // what is measured
	settle      time.Duration // idle, grow: how long to leave sessions alone before memory is read
	tls         *tls.Config   // nil: without TLS
	meter       meter
}

// A loadResult is what one load saw. Times are in nanoseconds.
type loadResult struct {
	usage
	Work    float64         `json:"work"` // round trips, connections or bytes, by mode; only what fell into the measured time
	P50     time.Duration   `json:"p50_ns"`
	P99     time.Duration   `json:"p99_ns"`
	Largest time.Duration   `json:"largest_ns"`
	Memory  *sessionsMemory `json:"memory,omitempty"` // idle only

	// Figures are what a scenario with a measure of its own has found, by name.
	Figures map[string]float64 `json:"figures,omitempty"`
}

func (r *loadResult) setLatency(h *histogram) {
	r.P50, r.P99, r.Largest = h.quantile(0.5), h.quantile(0.99), h.largest
}

// generators are the loads by mode.
func generators(c loadConfig) map[string]func(loadConfig) (loadResult, error) {
	if c.tls != nil {
		return map[string]func(loadConfig) (loadResult, error){modeIdle: idleTLS, modePingPong: pingPongTLS, modeConnect: connectTLS}
	}
	return map[string]func(loadConfig) (loadResult, error){
		modeIdle:     idle,
		modePingPong: pingPong,
		modePaced:    paced,
		modeConnect:  connect,
		modeBulk:     bulk,
		modeGrow:     grow,
	}
}

// loadCommand is `bench load`. It prints one JSON object.
func loadCommand(args []string, stdout io.Writer) error {
	var mode string
	if len(args) > 0 {
		mode, args = args[0], args[1:]
	}
	if _, known := generators(loadConfig{})[mode]; !known {
		return fmt.Errorf("%w: load wants one of idle, pingpong, paced, connect, bulk, grow first", errUsage)
	}
	config, err := parseLoad(mode, args)
	if err != nil {
		return err
	}
	// Sleeps of microseconds are to be exact: the kernel's default is up to 50 µs late.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	generate := generators(config)[mode]
	if generate == nil {
		return fmt.Errorf("%w: only idle, pingpong and connect run over TLS", errUsage)
	}
	if config.tls == nil {
		// No load without TLS allocates per message, so there is nothing to collect.
		debug.SetGCPercent(-1)
	}
	result, err := generate(config)
	if err != nil {
		return fmt.Errorf("%s: %w", mode, err)
	}
	return json.NewEncoder(stdout).Encode(result)
}

func parseLoad(mode string, args []string) (loadConfig, error) {
	connections, payload := 1000, 64
	switch mode {
	case modeIdle:
		connections = 5000
	case modeConnect:
		connections = 16
	case modeBulk:
		connections, payload = 2, 64<<10
	}
	flags := flag.NewFlagSet("load "+mode, flag.ContinueOnError)
	c := loadConfig{}
	target := flags.String("target", "127.0.0.1:1883", "`address` to connect to")
	level := flags.Int("level", levelMQTT311, "MQTT protocol `level`: 4 is version 3.1.1, 5 is version 5")
	flags.IntVar(&c.connections, "connections", connections, "how many `connections`; connect: how many at a time")
	flags.IntVar(&c.fewer, "fewer", 1000, "idle: the smaller `number` of connections that memory is compared with")
	sizes := flags.String("sizes", "1000,2000", "grow: the `numbers` of connections at which to measure")
	flags.IntVar(&c.rate, "rate", 2000, "paced: round `trips` per second, all connections together")
	flags.IntVar(&c.inFlight, "in-flight", 4, "bulk: `messages` under way per connection")
	flags.IntVar(&c.payload, "payload", payload, "`bytes` of payload per message")
	flags.DurationVar(&c.warmup, "warmup", 300*time.Millisecond, "how long to run before measuring")
	flags.DurationVar(&c.duration, "duration", 1500*time.Millisecond, "how long to measure")
	flags.DurationVar(&c.settle, "settle", memorySettle, "idle, grow: how long to wait before memory is read")
	version := flags.String("tls", "", "idle, pingpong, connect: over TLS of this `version`, 1.2 or 1.3")
	group := flags.String("group", "x25519", "TLS: the way of key exchange, x25519 or x25519mlkem768")
	proxy := flags.String("proxy", "", "comma-separated `pids` whose CPU time and memory to read")
	bystanders := flags.String("bystanders", "", "comma-separated `pids` that take part but are not measured")
	if err := parseFlags(flags, args); err != nil {
		return c, err
	}

	var err error
	if c.target, err = netip.ParseAddrPort(*target); err != nil || !c.target.Addr().Is4() {
		return c, fmt.Errorf("%w: -target wants an IPv4 address and a port, such as 127.0.0.1:1883", errUsage)
	}
	if *level != levelMQTT311 && *level != levelMQTT5 {
		return c, fmt.Errorf("%w: -level wants 4 or 5", errUsage)
	}
	c.level = byte(*level)
	if c.sizes, err = parseSizes(*sizes); err != nil {
		return c, err
	}
	positive := []int{c.connections, c.fewer, c.rate, c.inFlight, int(c.duration)}
	if slices.Min(positive) < 1 || c.payload < stampLen || c.warmup < 0 || c.settle < 0 {
		return c, fmt.Errorf("%w: counts and times want to be positive, -payload at least %d", errUsage, stampLen)
	}
	if mode == modeIdle && c.fewer >= c.connections {
		return c, fmt.Errorf("%w: -fewer wants to be less than -connections", errUsage)
	}
	if *version != "" {
		if c.tls, err = tlsConfig(*version, *group); err != nil {
			return c, err
		}
	}
	if c.meter.proxy, err = parsePIDs(*proxy); err != nil {
		return c, err
	}
	c.meter.bystanders, err = parsePIDs(*bystanders)
	return c, err
}

func parsePIDs(list string) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var pids []int
	for field := range strings.SplitSeq(list, ",") {
		pid, err := strconv.Atoi(field)
		if err != nil || pid < 1 {
			return nil, fmt.Errorf("%w: %q is no pid", errUsage, field)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// joinPIDs is the reverse of parsePIDs.
func joinPIDs(pids []int) string {
	fields := make([]string, len(pids))
	for i, pid := range pids {
		fields[i] = strconv.Itoa(pid)
	}
	return strings.Join(fields, ",")
}
