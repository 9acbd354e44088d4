package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/config"
)

// findSockets takes over the sockets that systemd has opened for mqttlb (sd_listen_fds(3)), by the name of the listener
// that each is for. They stay open for the life of the process: a listener that a reload removes can come back.
func findSockets() (map[string]int, error) {
	sockets := make(map[string]int)
	for _, f := range activation.Files(true) {
		name := f.Name()
		if _, ok := sockets[name]; ok {
			return nil, fmt.Errorf("systemd has passed two sockets called %s, and a listener takes one; give each socket unit one ListenStream= and a FileDescriptorName= of its own", name)
		}
		// A number of our own: f would close its descriptor when nobody refers to it any more.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("cannot take over socket %s: %w", name, err)
		}
		_ = f.Close()
		sockets[name] = fd
	}
	return sockets, nil
}

// checkSockets makes sure that every socket has its listener: clients would wait in the queue of another one for ever.
func checkSockets(sockets map[string]int, cfg *config.Config) error {
	for _, name := range sortedKeys(sockets) {
		if listenerNamed(cfg, name) == nil {
			var names []string
			for i := range cfg.Listeners {
				names = append(names, cfg.Listeners[i].Name)
			}
			return fmt.Errorf("systemd has passed a socket called %s, but no listener has that name; set FileDescriptorName= of the socket unit to one of %s",
				harmless(name), strings.Join(names, ", "))
		}
	}
	return nil
}

// warnOfElsewhere tells of listeners whose socket is not where the configuration says.
func (a *app) warnOfElsewhere(cfg *config.Config) {
	for i := range cfg.Listeners {
		l := &cfg.Listeners[i]
		at, ok := a.proxy.Addr(l.Name)
		if a.sockets[l.Name] == 0 || !ok {
			continue
		}
		if port := fmt.Sprint(":", at.Port()); !strings.HasSuffix(l.Address, port) {
			a.log.Warn("the socket that systemd has passed counts, and not the address of the listener",
				slog.String("listener", l.Name), slog.String("socket", at.String()), slog.String("address", l.Address))
		}
	}
}
