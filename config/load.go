package config

import (
	"fmt"
	"io"
	"os"
	"reflect"
)

// Options are what reading a configuration depends on, beside the file: facts
// about the surroundings that some defaults follow from, and what only others
// know about the values.
type Options struct {
	// Hostname is the default of instance.name.
	Hostname string
	// AdminSocket is the default of admin.socket: a path, or "" when the folder
	// of the usual path does not exist.
	AdminSocket string
	// Credentials is the folder that ${CREDENTIALS_DIRECTORY} means in paths of
	// files, or "" when systemd has passed none.
	Credentials string
	// Check, unless nil, looks for mistakes that this package cannot know of,
	// in a configuration that is complete but may have mistakes. It calls wrong
	// for each, with the path of the key, such as clusters[0].load.url, and a
	// message of one line that continues it: "must be …". It is not shown when
	// this package itself has found a mistake there.
	Check func(cfg *Config, wrong func(path, msg string))
}

// Load reads the configuration in the file at path. The error is Errors when
// the file is wrong, and another error when it cannot be read.
func Load(path string, opts Options) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(path, data, opts)
}

// Parse reads a configuration from data. The name is what errors call the
// file. The error, if any, is Errors.
func Parse(name string, data []byte, opts Options) (*Config, error) {
	r := newReport(name)
	cfg := newConfig(opts)
	if root := parseYAML(data, r); root != nil {
		decode(root, cfg, r)
		finish(cfg, opts, r)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}

// newConfig returns a configuration with all defaults that depend on nothing
// in the file.
func newConfig(opts Options) *Config {
	cfg := new(Config)
	setDefaults(reflect.ValueOf(cfg).Elem())
	cfg.Admin.Socket = opts.AdminSocket
	return cfg
}

// finish fills in what depends on other values and checks the whole.
func finish(cfg *Config, opts Options, r *report) {
	expandPaths(cfg, opts, r)
	derive(cfg, opts, r)
	checkValues(cfg, r)
	validate(cfg, r)
	if opts.Check == nil {
		return
	}
	opts.Check(cfg, func(path, msg string) {
		if r.sound(path) {
			r.at(path, "%s", msg)
		}
	})
}
