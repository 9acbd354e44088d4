package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/config"
)

func checkCommand(e *environment) *cobra.Command {
	var file string
	var show bool
	c := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Validate a configuration: file:line:column and what to write instead",
		Example: `  mqttlb check -c mqttlb.yaml
  mqttlb check -c mqttlb.yaml --show    # with all defaults filled in`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := vettedConfig(file, e)
			if err != nil {
				return err
			}
			if err := warn(file, e); err != nil {
				return err
			}
			if show {
				_, err = e.out.Write(cfg.Marshal())
				return err
			}
			_, err = fmt.Fprintf(e.out, "%s is valid: %d listener(s), %d cluster(s)\n", file, len(cfg.Listeners), len(cfg.Clusters))
			return err
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	c.Flags().BoolVar(&show, "show", false, "print the whole configuration with defaults; secrets are hidden")
	return c
}

// loadConfig reads a file, for those who only look something up in it. That it cannot be read counts as
// wrong usage, like everything wrong in it.
func loadConfig(file string, e *environment) (*config.Config, error) {
	return readConfig(file, e.configOptions())
}

// vettedConfig reads a file, for those who are going to use all that is in it.
func vettedConfig(file string, e *environment) (*config.Config, error) {
	o := e.configOptions()
	o.Check = vet
	return readConfig(file, o)
}

// warn tells of what is valid in a file and should not stay as it is.
func warn(file string, e *environment) error {
	o := e.configOptions()
	o.Check = allConcerns
	_, err := config.Load(file, o)
	list, ok := errors.AsType[config.Errors](err)
	if !ok {
		return err
	}
	for _, c := range list {
		c.Msg = "warning: " + c.Msg
		if _, err := fmt.Fprintln(e.err, c); err != nil {
			return err
		}
	}
	return nil
}

func readConfig(file string, o config.Options) (*config.Config, error) {
	if file == "" {
		return nil, usagef("which configuration? use -c FILE")
	}
	cfg, err := config.Load(file, o)
	if err != nil {
		return nil, usageError{err}
	}
	return cfg, nil
}
