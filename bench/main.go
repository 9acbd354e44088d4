// Command bench measures mqttlb beside HAProxy, nginx and Envoy.
//
//	go run . run            everything, about half an hour
//	go run . run -quick     the same in three minutes, to see that it works
//	go run . report         the page and the plots once more, from stored measurements
//	go run . stub           the stub broker alone
//	go run . load pingpong -target 127.0.0.1:1883     one load alone, against anything that speaks MQTT and echoes
//
// The processes of a measurement are apart so that the proxy's CPU time can be read by itself: run starts a stub broker,
// one proxy, and a load generator, which reads the proxy's CPU clock at the start and the end of the measured time.
// README.md says how each figure comes about. Linux only.
//
//	run.go       what run does, from flags to a table: cell.go is one measurement, scenarios.go lists which there are
//	systems.go   the proxies and their configurations; process.go, netns.go: where and how they run
//	stub.go      the broker of a measurement; echo.go answers what it is sent
//	load.go      a load: load_*.go one file each, socket.go, poller.go, packet.go: the tools, handshake.go, tls_client.go: TLS
//	meter.go     what a measurement reads: cpu.go, memory.go
//	fleet.go     whole fleets of clients: fleet_*.go, storm.go, balance.go, rolling.go
//	growth.go    the same figures at more and more connections
//	table.go     the figures as ratios: rows.go, table_rows.go; markdown.go, svg.go, plot_*.go show them
//	results.go   what is stored, store.go; notes.go: the reasons that people write beside the rows
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

const helpText = `usage: bench run [flags]       measure direct, HAProxy, nginx, Envoy and mqttlb, and print a table of ratios
       bench report [flags]    write the page and the plots once more from stored measurements
       bench stub [flags]      run the stub broker
       bench load MODE [flags] run one load: idle, pingpong, paced, connect, bulk or grow
       bench fleet [flags]     play one scenario with a whole fleet of clients
Each takes -help.
`

// errUsage marks wrong usage; the message is for the user.
var errUsage = errors.New("wrong usage")

func main() {
	// Two things belong to a thread and not to a process: the network namespace that run enters, and the signal that
	// a child gets when its parent, which is a thread, ends.
	runtime.LockOSThread()
	os.Exit(command(os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // main is the one place that exits
}

// command runs one subcommand and returns the exit status: 0 fine, 1 it failed, 2 wrong usage.
func command(args []string, stdout, stderr io.Writer) int {
	err := dispatch(args, stdout, stderr)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	fmt.Fprintln(stderr, "bench:", err)
	return 1
}

func dispatch(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, helpText)
		return fmt.Errorf("%w: no command", errUsage)
	}
	switch args[0] {
	case "run":
		// It has children to end in order; a signal ends stub and load at once.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return runCommand(ctx, args[1:], stdout, stderr)
	case "report":
		return reportCommand(args[1:], stdout)
	case "stub":
		return stubCommand(args[1:], stdout)
	case "load":
		return loadCommand(args[1:], stdout)
	case "fleet":
		// It has a proxy to end in order.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return fleetCommand(ctx, args[1:], stdout)
	case "help", "-h", "-help", "--help":
		fmt.Fprint(stdout, helpText)
		return nil
	}
	fmt.Fprint(stderr, helpText)
	return fmt.Errorf("%w: no command %q", errUsage, args[0])
}

// parseFlags parses flags that take no arguments behind them.
func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: %s takes no argument %q", errUsage, flags.Name(), flags.Arg(0))
	}
	return nil
}
