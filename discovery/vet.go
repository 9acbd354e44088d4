package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"github.com/mqttlb/mqttlb/balancer"
)

// What a backend may consist of. Names become labels of metrics, arguments of commands and parts of
// URLs; labels become parts of URLs and of PROXY headers.
const (
	maxName     = 128 // bytes
	maxHost     = 253 // bytes, RFC 1035 without the final dot
	maxLabels   = 32
	maxLabel    = 256 // bytes of a key and of a value
	maxCapacity = 1e6 // as in the configuration
)

// vet returns the backends that can be used, with Name, Host and a canonical Address, and those that
// cannot. When a name or an address is there twice, the first one has it.
func vet(found answer) (good []balancer.Backend, left []complaint) {
	good = make([]balancer.Backend, 0, len(found.backends))
	names, addresses := make(map[string]bool), make(map[string]string)
	for i := range found.backends {
		b := found.backends[i]
		err := vetOne(&b)
		switch {
		case err != nil:
		case names[b.Name]:
			err = errors.New("another backend has the same name")
		case addresses[b.Address] != "":
			err = fmt.Errorf("%s has the same address", addresses[b.Address])
		}
		if err != nil {
			c := complaint{backend: b.Name, why: err}
			if found.where != nil {
				c.where = found.where[i]
			}
			left = append(left, c)
			continue
		}
		names[b.Name] = true
		addresses[b.Address] = b.Name
		good = append(good, b)
	}
	return good, left
}

// vetOne checks one backend, and fills in its Host and, if it has none, its Name.
func vetOne(b *balancer.Backend) error {
	if b.Name == "" {
		b.Name = b.Address
	}
	if err := checkName(b.Name); err != nil {
		return err
	}
	host, port, err := splitHostPort(b.Address)
	if err != nil {
		return err
	}
	if b.Host == "" {
		b.Host = host
	}
	b.Address = net.JoinHostPort(host, strconv.Itoa(int(port)))
	if !(b.Capacity >= 0 && b.Capacity <= maxCapacity) { // a NaN is neither
		return fmt.Errorf("capacity %v is not between 0 and %v", b.Capacity, maxCapacity)
	}
	return checkLabels(b.Labels)
}

func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("its name has %d bytes, more than %d", len(name), maxName)
	}
	for _, c := range name {
		if !unicode.IsPrint(c) || c == ' ' || c == '/' || c == unicode.ReplacementChar {
			return fmt.Errorf("its name contains %q; use letters, digits, dots and dashes", c)
		}
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%d labels are more than %d", len(labels), maxLabels)
	}
	for key, value := range labels {
		for _, text := range []string{key, value} {
			if len(text) > maxLabel {
				return fmt.Errorf("the label %q has more than %d bytes", cut(key, maxName), maxLabel)
			}
			if strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) || c == unicode.ReplacementChar }) {
				return fmt.Errorf("the label %q contains a character that cannot be printed", cut(key, maxName))
			}
		}
	}
	return nil
}

// splitHostPort returns the parts of an address. The host is an IP address in its shortest form, or a host
// name in lower case without a final dot.
func splitHostPort(address string) (string, uint16, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("its address must be host:port, got %q", cut(address, maxName))
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("invalid port %q; it must be from 1 to 65535", cut(service, maxName))
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.String(), uint16(port), checkIP(ip)
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if !isHostName(name) {
		return "", 0, fmt.Errorf("%q is neither an IP address nor a host name", cut(host, maxName))
	}
	return name, uint16(port), nil
}

// isHostName tells whether name may stand before a resolver: labels of letters, digits, dashes and, because
// container networks have it, underscores. A name of digits and dots only is a mistyped IP address.
func isHostName(name string) bool {
	if len(name) > maxHost || strings.Trim(name, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// checkIP refuses addresses that no broker can be reached at.
func checkIP(ip netip.Addr) error {
	if ip.Zone() != "" && !isHostName("z"+strings.ToLower(ip.Zone())) {
		return fmt.Errorf("the zone of %q is not the name of an interface", cut(ip.String(), maxName))
	}
	if ip.IsUnspecified() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return fmt.Errorf("%v is not the address of a host", ip)
	}
	return nil
}
