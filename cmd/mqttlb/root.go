package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/config"
)

// The exit statuses.
const (
	exitFine   = 0
	exitFailed = 1 // it failed while running
	exitUsage  = 2 // wrong usage or invalid configuration
)

// environment is what commands may use of the world.
type environment struct {
	in       io.Reader
	out, err io.Writer
	hostname string
	// credentials is the folder that ${CREDENTIALS_DIRECTORY} means in the configuration.
	credentials string
	supervisor  *supervisor    // nil if there is none
	sockets     map[string]int // that are passed to mqttlb run, by listener
}

func systemEnvironment() *environment {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "mqttlb"
	}
	return &environment{in: os.Stdin, out: os.Stdout, err: os.Stderr, hostname: hostname, credentials: os.Getenv("CREDENTIALS_DIRECTORY")}
}

// usageError is an error of whoever called, not of the program.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// usagef returns an error that leads to exit status 2.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// execute runs one command line and returns the exit status.
func execute(args []string, e *environment) int {
	root := rootCommand(e)
	root.SetArgs(args)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return exitFine
	}
	if invalid, ok := errors.AsType[config.Errors](err); ok {
		for _, mistake := range invalid {
			// FILE:LINE:COLUMN first, as editors and people like it; a mistake in the flags has no such place.
			if mistake.File == "" {
				fmt.Fprint(e.err, "mqttlb: ")
			}
			fmt.Fprintln(e.err, mistake)
		}
		return exitUsage
	}
	fmt.Fprintln(e.err, "mqttlb:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

func rootCommand(e *environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "mqttlb",
		Short: "The load balancer that understands MQTT",
		Long: `mqttlb stands in front of a cluster of MQTT brokers. It reads each client's CONNECT packet and
decides which broker the client belongs to.

  mqttlb demo                    see a whole cluster in one process
  mqttlb run -c mqttlb.yaml      run the load balancer

Exit status: 0 fine, 1 it failed while running, 2 wrong usage or invalid configuration.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q; see mqttlb --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(e.in)
	root.SetOut(e.out)
	root.SetErr(e.err)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		runCommand(e), checkCommand(e), demoCommand(e),
		statusCommand(e), backendsCommand(e), clientsCommand(e), groupsCommand(e), explainCommand(e),
		drainCommand(e), resumeCommand(e), rebalanceCommand(e), stateCommand(e), eventsCommand(e),
		simulateCommand(e), reloadCommand(e), healthcheckCommand(e), versionCommand(e),
	)
	for _, c := range root.Commands() {
		if c.Args != nil {
			c.Args = asUsage(c.Args)
		}
	}
	return root
}

// asUsage makes a wrong number of arguments a usage error.
func asUsage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w; see %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}

// oneArg is for commands with exactly one argument, which has this name.
func oneArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return fmt.Errorf("%s is missing", name)
		case 1:
			return nil
		}
		return fmt.Errorf("got %d arguments, want %s only", len(args), name)
	}
}

// configOptions are the facts about this host that defaults of the configuration depend on.
func (e *environment) configOptions() config.Options {
	o := config.Options{Hostname: e.hostname, Credentials: e.credentials}
	if info, err := os.Stat(adminFolder); err == nil && info.IsDir() {
		o.AdminSocket = adminSocket
	}
	return o
}

const (
	adminFolder = "/run/mqttlb"
	adminSocket = adminFolder + "/admin.sock"
)
