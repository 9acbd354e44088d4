package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// addressRule says what an address of a certain use must look like.
type addressRule struct {
	want     string // in a message, after "must be"
	needHost bool
	zeroPort bool // 0 lets the system choose a port, which tests do
	// host and port complete what is half an address, in suggestions.
	host, port string
}

// The rules for the three uses of addresses. The API is suggested on the
// loopback interface only: nobody should open it to a network by accident.
func listenRule() addressRule {
	return addressRule{want: `an address such as ":1883" or "127.0.0.1:1883"`, zeroPort: true, port: "1883"}
}

func adminRule() addressRule {
	return addressRule{want: `an address such as "127.0.0.1:9180"`, zeroPort: true, host: "127.0.0.1", port: "9180"}
}

func backendRule() addressRule {
	return addressRule{want: `host and port such as "10.0.0.1:1883"`, needHost: true, port: "1883"}
}

// address is an address in pieces. The host is in its shortest form, in lower
// case, and without brackets.
type address struct {
	host string
	port int
}

// parseAddress splits text. If it breaks the rule, it returns false and what
// to write instead if that can be guessed.
func parseAddress(text string, rule addressRule) (a address, hint string, ok bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return address{}, guessAddress(text, rule), false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 && !rule.zeroPort {
		return address{}, guessAddress(net.JoinHostPort(host, rule.port), rule), false
	}
	host, ok = canonicalHost(host)
	if !ok || host == "" && rule.needHost {
		return address{}, "", false
	}
	return address{host, int(n)}, "", true
}

// guessAddress returns the address that text was probably meant to be, or "".
func guessAddress(text string, rule addressRule) string {
	_, rest, isURL := strings.Cut(text, "://")
	if isURL {
		text = strings.TrimRight(rest, "/")
	}
	guesses := []string{text, net.JoinHostPort(strings.Trim(text, "[]"), rule.port)}
	if isDigits(text) {
		guesses = []string{net.JoinHostPort(rule.host, text)}
	} else if i := strings.LastIndexByte(text, ':'); strings.Count(text, ":") > 1 {
		// An IPv6 address without brackets. What follows the last colon is a
		// port when nothing else is possible, or when it looks like one.
		host, port := text[:i], text[i+1:]
		if _, err := netip.ParseAddr(text); err != nil || len(port) == 4 && isDigits(port) {
			guesses = slices.Insert(guesses, 1, net.JoinHostPort(host, port))
		}
	}
	for _, guess := range guesses {
		host, port, err := net.SplitHostPort(guess)
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if _, ok := canonicalHost(host); ok && err == nil && (n > 0 || rule.zeroPort) && (host != "" || !rule.needHost) {
			return strconv.Quote(guess)
		}
	}
	return ""
}

// canonicalHost returns the form of host in which equal hosts are equal. It is
// false when host is neither empty, nor an IP address, nor a host name.
func canonicalHost(host string) (string, bool) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String(), true
	}
	const longest = 253 // RFC 1035, without the final dot
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	if len(name) > longest || host != "" && name == "" {
		return "", false
	}
	digitsOnly := true
	for label := range strings.SplitSeq(name, ".") {
		if name == "" {
			return "", true
		}
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for _, c := range label {
			letter := c >= 'a' && c <= 'z' || c == '-' || c == '_' // no RFC wants the underscore, container networks have it
			if !letter && (c < '0' || c > '9') {
				return "", false
			}
		}
		digitsOnly = digitsOnly && isDigits(label)
	}
	return name, !digitsOnly // 10.0.0.256 and 10.1 are mistyped IP addresses
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// overlaps reports whether listening on both addresses must fail: they have
// the same port, and the same host or one that stands for all hosts. A host
// name and an IP address may be the same host, which nobody can tell from here.
func (a address) overlaps(b address) bool {
	if a.port != b.port || a.port == 0 {
		return false
	}
	return a.host == b.host || a.covers(b.host) || b.covers(a.host)
}

// covers reports whether listening on a includes listening on host.
func (a address) covers(host string) bool {
	ip, err := netip.ParseAddr(host)
	switch a.host {
	case "":
		return true
	case "0.0.0.0":
		return err == nil && ip.Is4()
	case "::":
		return err == nil && ip.Is6()
	default:
		return false
	}
}

// checkAddress checks text against rule and returns its pieces.
func checkAddress(path, text string, rule addressRule, r *report) (address, bool) {
	a, hint, ok := parseAddress(text, rule)
	if ok {
		return a, !r.spoiled(path) // or it is a default that nobody meant
	}
	if hint != "" {
		hint = "; write " + hint
	}
	r.at(path, "must be %s, got %s%s", rule.want, literal{text: text, quoted: true}.show(), hint)
	return address{}, false
}
