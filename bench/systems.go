package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"
)

// The systems that are measured, in the order of the table.
const (
	direct  = "direct"
	haproxy = "haproxy"
	nginx   = "nginx"
	envoy   = "envoy"
	mqttlb  = "mqttlb"
)

var (
	systemNames = []string{direct, haproxy, nginx, envoy, mqttlb}
	proxies     = systemNames[1:]
	rivals      = []string{haproxy, nginx, envoy} // what mqttlb is compared with
)

//go:embed systems/*.tmpl
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "systems/*.tmpl"))

// A system is one way from the clients to the brokers.
type system struct {
	name    string
	version string
	missing string // why it cannot be measured; empty when it can

	binary   string
	template string
	args     func(config string, threads int) []string
	module   string // nginx: the stream module's file, when it is not built in
}

// A proxyConfig is what the configuration templates are filled with.
type proxyConfig struct {
	Listen   netip.AddrPort
	Admin    netip.AddrPort
	Backends []netip.AddrPort
	Threads  int
	Folder   string
	PEM      string // file with certificate and key; empty: without TLS
	Module   string
}

// findSystems looks for the named systems; one that is not there says so in missing. mqttlbBinary is a path, or
// empty for building it into folder.
func findSystems(ctx context.Context, names []string, mqttlbBinary, folder string) ([]system, error) {
	var systems []system
	for _, name := range names {
		var s system
		switch name {
		case direct:
		case haproxy:
			s = findHAProxy(ctx)
		case nginx:
			s = findNginx(ctx)
		case envoy:
			s = findEnvoy(ctx)
		case mqttlb:
			var err error
			if s, err = findMqttlb(ctx, mqttlbBinary, folder); err != nil {
				return nil, err
			}
		}
		s.name = name
		systems = append(systems, s)
	}
	return systems, nil
}

const notInstalled = "not installed"

var versionNumber = regexp.MustCompile(`\d+\.\d+(\.\d+)?`)

func findHAProxy(ctx context.Context) system {
	binary, err := lookUp("haproxy")
	if err != nil {
		return system{missing: notInstalled}
	}
	said, err := exec.CommandContext(ctx, binary, "-v").CombinedOutput()
	if err != nil {
		return system{missing: err.Error()}
	}
	return system{
		version:  versionNumber.FindString(string(said)),
		binary:   binary,
		template: "haproxy.cfg.tmpl",
		args:     func(config string, _ int) []string { return []string{"-db", "-f", config} }, // in the foreground
	}
}

func findNginx(ctx context.Context) system {
	binary, err := lookUp("nginx")
	if err != nil {
		return system{missing: notInstalled}
	}
	said, err := exec.CommandContext(ctx, binary, "-V").CombinedOutput()
	if err != nil {
		return system{missing: err.Error()}
	}
	module, found := streamModule(string(said), fileExists)
	if !found {
		return system{missing: "no stream module"}
	}
	return system{
		version:  versionNumber.FindString(string(said)),
		binary:   binary,
		template: "nginx.conf.tmpl",
		args:     func(config string, _ int) []string { return []string{"-e", "stderr", "-c", config} },
		module:   module,
	}
}

// findEnvoy looks where install.sh puts it, then in PATH.
func findEnvoy(ctx context.Context) system {
	var binary string
	if cache, err := os.UserCacheDir(); err == nil {
		binary = filepath.Join(cache, "mqttlb-bench", "envoy")
	}
	if !fileExists(binary) {
		var err error
		if binary, err = lookUp("envoy"); err != nil {
			return system{missing: notInstalled}
		}
	}
	said, err := exec.CommandContext(ctx, binary, "--version").CombinedOutput()
	if err != nil {
		return system{missing: err.Error()}
	}
	_, version, _ := strings.Cut(string(said), "version:")
	return system{
		version:  versionNumber.FindString(version),
		binary:   binary,
		template: "envoy.yaml.tmpl",
		args: func(config string, threads int) []string {
			return []string{"-c", config, "--concurrency", strconv.Itoa(threads), "--disable-hot-restart", "--log-level", "error"}
		},
	}
}

// streamModule finds nginx's stream module from what `nginx -V` says: built in (an empty path), or a file beside it,
// which Debian has in the package libnginx-mod-stream.
func streamModule(buildInfo string, exists func(path string) bool) (path string, found bool) {
	folder := "/usr/lib/nginx/modules"
	for field := range strings.FieldsSeq(buildInfo) {
		if field == "--with-stream" {
			return "", true
		}
		if f, is := strings.CutPrefix(field, "--modules-path="); is {
			folder = f
		}
	}
	path = filepath.Join(folder, "ngx_stream_module.so")
	return path, exists(path)
}

// mqttlbSource is where mqttlb is built from, seen from the folder of this module.
const mqttlbSource = "../cmd/mqttlb"

func findMqttlb(ctx context.Context, binary, folder string) (system, error) {
	if binary == "" {
		if !fileExists(filepath.Join(mqttlbSource, "main.go")) {
			return system{missing: notInstalled}, nil
		}
		binary = filepath.Join(folder, "mqttlb")
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./"+filepath.Base(mqttlbSource))
		build.Dir = filepath.Dir(mqttlbSource)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := build.CombinedOutput(); err != nil {
			return system{}, fmt.Errorf("build mqttlb: %w\n%s", err, said)
		}
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		return system{}, err
	}
	said, err := exec.CommandContext(ctx, binary, "version").CombinedOutput()
	if err != nil {
		return system{}, fmt.Errorf("%s version: %w\n%s", binary, err, said)
	}
	version, _, _ := strings.Cut(strings.TrimSpace(string(said)), ",")
	return system{
		version:  strings.TrimPrefix(version, "mqttlb "),
		binary:   binary,
		template: "mqttlb.yaml.tmpl",
		args:     func(config string, _ int) []string { return []string{"run", "-c", config} },
	}, nil
}

// lookUp finds a program also where Debian has servers, which is not in every user's PATH.
func lookUp(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// writeConfig writes the system's configuration and returns its path.
func (s system) writeConfig(c proxyConfig) (string, error) {
	path := filepath.Join(c.Folder, strings.TrimSuffix(s.template, ".tmpl"))
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	c.Module = s.module
	err = templates.ExecuteTemplate(file, s.template, c)
	return path, errors.Join(err, file.Close())
}
