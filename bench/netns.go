package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// network says what the measurements run on.
type network struct {
	private    bool
	reason     string // why it is not private
	congestion string // TCP congestion control
}

func (n network) String() string {
	if n.private {
		return "a private network namespace for each measurement, congestion control " + n.congestion
	}
	return fmt.Sprintf("THE HOST'S OWN, congestion control %s (%s): do not publish these figures", n.congestion, n.reason)
}

// namespaceSettings make measurements alike on every host. BBR, which some have as a default, paces by timers and
// distorts bulk transfer over the loopback.
var namespaceSettings = []struct{ name, value string }{
	{"net.ipv4.tcp_congestion_control", "reno"},
	{"net.ipv4.ip_local_port_range", "1024 65535"},
}

// enterNetwork puts the calling thread, and the children it starts from then on, into a fresh network namespace. So no
// measurement finds the ports of the one before it in TIME_WAIT, and nothing of the host takes part. Without the
// privilege the host's network stays.
func enterNetwork() (network, error) {
	n := network{private: true}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		n = network{reason: fmt.Sprintf("no namespace: %v", err)}
	}
	if n.private {
		if err := setUpNamespace(); err != nil {
			return network{}, fmt.Errorf("network namespace: %w", err)
		}
	}
	congestion, err := os.ReadFile(settingPath("net.ipv4.tcp_congestion_control"))
	n.congestion = string(bytes.TrimSpace(congestion))
	return n, err
}

func setUpNamespace() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	for _, s := range namespaceSettings {
		if err := os.WriteFile(settingPath(s.name), []byte(s.value), 0); err != nil {
			return err
		}
	}
	return nil
}

// settingPath is where a sysctl is; below net it is the calling thread's namespace's own.
func settingPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }
