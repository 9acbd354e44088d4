package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/proxy"
)

func runCommand(e *environment) *cobra.Command {
	var file string
	var listen, backends []string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the load balancer",
		Long: `Run the load balancer until SIGTERM or SIGINT. Then readiness fails, after shutdown.grace no new
client is accepted, and the open sessions are ended evenly within shutdown.drain. A second signal stops
at once. SIGHUP reloads the configuration.

Under systemd (Type=notify) mqttlb tells when it is ready, reloads or stops, answers the watchdog, and takes
over the sockets of socket units whose FileDescriptorName is the name of a listener.`,
		Example: `  mqttlb run -c mqttlb.yaml
  mqttlb run --listen :1883 --backend 10.0.0.1:1883 --backend 10.0.0.2:1883`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, load, err := runConfig(file, listen, backends, e)
			if err != nil {
				return err
			}
			if e.supervisor, err = findSupervisor(); err != nil {
				return err
			}
			if e.sockets, err = findSockets(); err != nil {
				return err
			}
			return run(cmd.Context(), cfg, load, located(file, e), e)
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	c.Flags().StringArrayVar(&listen, "listen", nil, "address to listen on, without a file; may be repeated (default :1883)")
	c.Flags().StringArrayVar(&backends, "backend", nil, "address of a broker, without a file; may be repeated")
	return c
}

// runConfig returns the configuration to run with and, if it came from a file, how to read it again.
func runConfig(file string, listen, backends []string, e *environment) (*config.Config, func() (*config.Config, error), error) {
	if file != "" && len(listen)+len(backends) > 0 {
		return nil, nil, usagef("use either -c FILE or --listen and --backend, not both")
	}
	if file == "" && len(listen)+len(backends) == 0 {
		return nil, nil, usagef("nothing to run: use -c FILE, or --backend HOST:PORT once for each broker")
	}
	if file == "" {
		cfg, err := config.FromFlags(listen, backends, e.configOptions())
		return cfg, nil, err
	}
	load := func() (*config.Config, error) { return vettedConfig(file, e) }
	cfg, err := load()
	return cfg, load, err
}

// run serves until a signal or the end of ctx. load and locate are those of app.
func run(ctx context.Context, cfg *config.Config, load func() (*config.Config, error), locate func(path, msg string) error, e *environment) error {
	runtime.GOMAXPROCS(proxy.Procs(runtime.NumCPU()))
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT)
	// Never signal.Stop: it would restore the default, and a second signal in the last moment would kill.
	a, err := newApp(cfg, e, load)
	if err != nil {
		return err
	}
	a.locate = locate
	a.start()
	debug.FreeOSMemory() // what reading the configuration has left behind
	for {
		select {
		case <-ctx.Done():
			a.close()
			return nil
		case s := <-signals:
			if s != syscall.SIGHUP {
				a.shutdown(untilSignal(ctx, signals))
				return nil
			}
			if err := a.reload(ctx); err != nil {
				a.log.Debug("reload by signal failed", slog.Any("error", err))
			}
		}
	}
}

// untilSignal returns a context that ends with the next signal to stop.
func untilSignal(ctx context.Context, signals <-chan os.Signal) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-signals:
				if s != syscall.SIGHUP {
					return
				}
			}
		}
	}()
	return ctx
}
