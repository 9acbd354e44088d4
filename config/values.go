package config

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Size is a number of bytes, written 512B, 64KiB or 1MiB.
type Size int64

// The units of a Size.
const (
	kib Size = 1 << 10
	mib Size = 1 << 20
	gib Size = 1 << 30
)

// String returns the size in the largest unit that divides it.
func (s Size) String() string {
	switch {
	case s == 0:
		return "0B"
	case s%gib == 0:
		return fmt.Sprintf("%dGiB", int64(s/gib))
	case s%mib == 0:
		return fmt.Sprintf("%dMiB", int64(s/mib))
	case s%kib == 0:
		return fmt.Sprintf("%dKiB", int64(s/kib))
	default:
		return fmt.Sprintf("%dB", int64(s))
	}
}

// IP is an address of a host, without a port.
type IP string

// Origin is a site as browsers name it: scheme, host and port. It may hold *.
type Origin string

// Network is a network of IP addresses, such as 10.0.0.0/8.
type Network string

// Secret is a value that must not appear in logs or dumps: everything but a
// conversion to string redacts it.
type Secret string

const redacted = "<redacted>"

// String returns a placeholder, or "" when there is no secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString does what String does, for %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText does what String does, for encoding/json and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// literal is a scalar as it stands in the file.
type literal struct {
	text   string
	quoted bool // text between quotes, or a block of text
	null   bool // nothing, or null
}

// show returns the literal for a message.
func (l literal) show() string {
	const longest = 60
	text := l.text
	if len(text) > longest {
		cut := longest
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "…"
	}
	if l.isNumber() {
		return text
	}
	return strconv.Quote(text)
}

func (l literal) isNumber() bool {
	_, err := strconv.ParseFloat(l.text, 64)
	return !l.quoted && err == nil
}

// kind is how one Go type is written in the file.
type kind struct {
	name string // in the reference page
	want string // in a message, after "must be"
	// parse sets v. If the text is not of this kind it returns false, and what
	// to write instead if that can be guessed.
	parse func(v reflect.Value, l literal) (hint string, ok bool)
	// text returns v as it would be written in the file, unquoted.
	text func(v reflect.Value) string
}

// kindOf returns how a scalar type is written. It is the list of all types
// that a key can have, besides sections, lists of sections, and maps of text.
func kindOf(t reflect.Type) (kind, bool) {
	switch t {
	case reflect.TypeFor[string]():
		return kind{"text", "text", parseText, reflect.Value.String}, true
	case reflect.TypeFor[Secret]():
		return kind{"secret", "text", parseText, reflect.Value.String}, true
	case reflect.TypeFor[IP]():
		return kind{"IP address", "an IP address such as 10.0.0.5", parseIP, reflect.Value.String}, true
	case reflect.TypeFor[Origin]():
		return kind{"origin", "an origin such as https://app.example", parseOrigin, reflect.Value.String}, true
	case reflect.TypeFor[Network]():
		return kind{"network", "a network such as 10.0.0.0/8, or an IP address", parseNetwork, reflect.Value.String}, true
	case reflect.TypeFor[bool]():
		return kind{"bool", "true or false", parseBool, func(v reflect.Value) string { return strconv.FormatBool(v.Bool()) }}, true
	case reflect.TypeFor[int]():
		return kind{"number", "a whole number", parseInt, func(v reflect.Value) string { return strconv.FormatInt(v.Int(), 10) }}, true
	case reflect.TypeFor[byte]():
		return kind{"byte", "a byte such as 0xE4", parseByte, func(v reflect.Value) string { return fmt.Sprintf("0x%02X", v.Uint()) }}, true
	case reflect.TypeFor[float64]():
		return kind{"number", "a number", parseFloat, func(v reflect.Value) string { return floatText(v.Float()) }}, true
	case reflect.TypeFor[time.Duration]():
		return kind{"duration", "a duration such as 30s, 1m30s or 500ms", parseDuration, func(v reflect.Value) string { return durationText(time.Duration(v.Int())) }}, true
	case reflect.TypeFor[Size]():
		return kind{"size", "a size such as 512B, 64KiB or 1MiB", parseSize, func(v reflect.Value) string { return Size(v.Int()).String() }}, true
	case reflect.TypeFor[Rate]():
		return kind{"rate", "a rate such as 100/s", parseRate, func(v reflect.Value) string { return Rate(v.Float()).String() }}, true
	case reflect.TypeFor[Percent]():
		return kind{"percentage", "a percentage such as 5%", parsePercent, func(v reflect.Value) string { return Percent(v.Float()).String() }}, true
	case reflect.TypeFor[Amount]():
		return kind{"amount", "a percentage below 100% such as 2%, or a whole number such as 200", parseAmount, func(v reflect.Value) string { return Amount(v.Float()).String() }}, true
	default:
		return kind{}, false
	}
}

func parseText(v reflect.Value, l literal) (string, bool) {
	if !l.quoted && (strings.EqualFold(l.text, "true") || strings.EqualFold(l.text, "false")) {
		return strconv.Quote(l.text) + " with the quotes", false
	}
	v.SetString(l.text)
	return "", true
}

func parseOrigin(v reflect.Value, l literal) (string, bool) {
	scheme, host, _ := strings.Cut(l.text, "://")
	site, _, hasPath := strings.Cut(host, "/")
	switch {
	case l.text == "*":
		return "no origins at all to let all in", false
	case !strings.Contains(l.text, "://") && host == "" && strings.Contains(scheme, ".") && !strings.ContainsAny(scheme, " /?#@"):
		return "https://" + scheme, false
	case l.text == "null": // what pages without a site say, such as files
	case scheme == "" || site == "" || strings.ContainsAny(l.text, " ?#@") || strings.Count(l.text, "*") > 1:
		return "", false
	case hasPath:
		return scheme + "://" + site + ", an origin has no path", false
	}
	v.SetString(l.text)
	return "", true
}

func parseIP(v reflect.Value, l literal) (string, bool) {
	a, err := netip.ParseAddr(l.text)
	if err != nil || a.Zone() != "" {
		if at, err := netip.ParseAddrPort(l.text); err == nil {
			return at.Addr().String() + " without a port", false
		}
		return "", false
	}
	v.SetString(a.Unmap().String())
	return "", true
}

// parseNetwork reads a network. An address is one with nobody else in it.
func parseNetwork(v reflect.Value, l literal) (string, bool) {
	address, _, isNetwork := strings.Cut(l.text, "/")
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		if at, err := netip.ParseAddrPort(address); err == nil && !isNetwork {
			return at.Addr().String() + " without a port", false
		}
		return "", false
	}
	p := netip.PrefixFrom(a, a.BitLen())
	if isNetwork {
		if p, err = netip.ParsePrefix(l.text); err != nil {
			return "", false
		}
	}
	if a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return fmt.Sprintf("%v for the network, or %v for the address", p.Masked(), p.Addr()), false
	}
	v.SetString(p.String())
	return "", true
}

func parseBool(v reflect.Value, l literal) (string, bool) {
	switch strings.ToLower(l.text) {
	case "true":
		v.SetBool(true)
		return "true without quotes", !l.quoted
	case "false":
		v.SetBool(false)
		return "false without quotes", !l.quoted
	case "yes", "y", "on":
		return "true", false
	case "no", "n", "off":
		return "false", false
	default:
		return "", false
	}
}

func parseInt(v reflect.Value, l literal) (string, bool) {
	n, hint, ok := integer(l)
	if ok {
		v.SetInt(n)
	}
	return hint, ok
}

func parseByte(v reflect.Value, l literal) (string, bool) {
	n, hint, ok := integer(l)
	if !ok || n < 0 || n > math.MaxUint8 {
		return hint, false
	}
	v.SetUint(uint64(n))
	return "", true
}

// integer reads a whole number, decimal or with 0x, 0o or 0b before it.
func integer(l literal) (n int64, hint string, ok bool) {
	digits := strings.TrimLeft(l.text, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		// YAML 1.1 reads 010 as 8 and YAML 1.2 as 10.
		return 0, "it without the leading 0", false
	}
	n, err := strconv.ParseInt(l.text, 0, 64)
	if err == nil && l.quoted {
		return 0, l.text + " without quotes", false
	}
	return n, "", err == nil
}

func parseFloat(v reflect.Value, l literal) (string, bool) {
	x, err := strconv.ParseFloat(l.text, 64)
	if err != nil || math.IsInf(x, 0) || math.IsNaN(x) {
		return "", false
	}
	if l.quoted {
		return l.text + " without quotes", false
	}
	v.SetFloat(x)
	return "", true
}

// floatText returns x without an exponent.
func floatText(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

func parseDuration(v reflect.Value, l literal) (string, bool) {
	d, err := time.ParseDuration(l.text) // which takes 0 without a unit, and no other number
	if err == nil && d >= 0 {
		v.SetInt(int64(d))
		return "", true
	}
	text := strings.ToLower(strings.Join(strings.Fields(l.text), ""))
	if _, err := strconv.ParseUint(text, 10, 32); err == nil {
		return text + "s for seconds or " + text + "ms for milliseconds", false
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return strconv.FormatUint(24*n, 10) + "h", false
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return durationText(d), false
	}
	return "", false
}

// durationText returns d in the form that people write: 2m, not 2m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func parseSize(v reflect.Value, l literal) (string, bool) {
	digits := strings.TrimRight(l.text, "KMGTBkmgtbi ")
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 {
		return "", false
	}
	var unit Size
	suffix := strings.TrimLeft(l.text[len(digits):], " ")
	switch strings.ToLower(suffix) {
	case "", "b":
		unit = 1
	case "k", "kb", "kib":
		unit = kib
	case "m", "mb", "mib":
		unit = mib
	case "g", "gb", "gib":
		unit = gib
	default:
		return "", false
	}
	if n > math.MaxInt64/int64(unit) {
		return "", false
	}
	if exact := digits + strings.TrimLeft(unit.String(), "1"); l.text != exact && l.text != digits {
		return exact, false
	}
	v.SetInt(n * int64(unit))
	return "", true
}
