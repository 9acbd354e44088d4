package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	// maxPath is what Linux allows, with the byte at the end (PATH_MAX).
	maxPath = 4095
	// maxKey bounds the names of objects, and with them their prefix.
	maxKey = 1024
	// minBucket and maxBucket bound the name of a bucket.
	minBucket, maxBucket = 3, 63
)

func validateDiscovery(path string, d *Discovery, r *report) {
	sources := []choice{{"static", d.Static != nil}, {"file", d.File != nil}, {"dns", d.DNS != nil}, {"s3", d.S3 != nil}}
	if checkChoice(path, sources, r) == 0 {
		r.at(path, `has no source of backends; write discovery: {static: [{address: "10.0.0.1:1883"}]}, or use file, dns or s3`)
	}
	validateStatic(path+".static", d.Static, r)
	if d.File != nil {
		checkPath(path+".file.path", d.File.Path, r)
	}
	if d.DNS != nil {
		validateDNS(path+".dns", d.DNS, r)
	}
	if d.S3 != nil {
		validateS3(path+".s3", d.S3, r)
	}
}

func validateStatic(path string, list []Backend, r *report) {
	names := names{uniqueness{what: "each backend needs a name of its own"}}
	addresses := uniqueness{what: "list each backend once"}
	for i, b := range list {
		path := item(path, i)
		a, ok := checkAddress(path+".address", b.Address, backendRule(), r)
		ok = ok && addresses.check(path+".address", net.JoinHostPort(a.host, strconv.Itoa(a.port)), r)
		if ok || b.Name != b.Address { // as with listeners
			names.check(path+".name", b.Name, r)
		}
	}
}

func validateDNS(path string, d *DNSSource, r *report) {
	shown := literal{text: d.Name, quoted: true}.show()
	_, notIP := netip.ParseAddr(d.Name)
	host, ok := canonicalHost(d.Name)
	switch a, _, full := parseAddress(d.Name, backendRule()); {
	case full:
		r.at(path+".name", "must be a DNS name without a port, got %s; write name: %s and port: %d", shown, a.host, a.port)
	case notIP == nil:
		r.at(path+".name", "must be a DNS name, got the address %s; write it under static", shown)
	case !ok || host == "":
		r.at(path+".name", "must be a DNS name such as hivemq-cluster, got %s", shown)
	}
	switch {
	case !r.sound(path + ".type"):
	case d.Type == "SRV" && d.Port != 0:
		r.at(path+".port", "is of no use with type: SRV, whose records have the port; remove it")
	case d.Type != "SRV" && d.Port == 0:
		r.at(path+".port", "must be 1..65535 with type: %s, got 0", d.Type)
	}
	if d.Server != "" && !isDNSServer(d.Server) {
		r.at(path+".server", "must be the IP address of a DNS server, with or without a port, such as 10.0.0.2 or 10.0.0.2:53, got %s",
			literal{text: d.Server, quoted: true}.show())
	}
}

func isDNSServer(text string) bool {
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return true
	}
	at, err := netip.ParseAddrPort(text)
	return err == nil && at.Port() > 0
}

func validateS3(path string, s *S3Source, r *report) {
	if hint, ok := checkBucket(s.Bucket); !ok {
		r.at(path+".bucket", "must be the name of a bucket, %d..%d lower-case letters, digits, dots and dashes, got %s%s",
			minBucket, maxBucket, literal{text: s.Bucket, quoted: true}.show(), hint)
	}
	if len(s.Prefix) > maxKey {
		r.at(path+".prefix", "must be at most %d bytes long, got %d", maxKey, len(s.Prefix))
	}
	if s.Endpoint != "" {
		checkEndpoint(path+".endpoint", s.Endpoint, r)
	}
	if strings.Trim(strings.ToLower(s.Region), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		r.at(path+".region", "must be the name of a region such as eu-central-1, got %s", literal{text: s.Region, quoted: true}.show())
	}
	for _, file := range []struct{ key, path string }{
		{"access_key_file", s.AccessKeyFile}, {"secret_key_file", s.SecretKeyFile}, {"session_token_file", s.SessionTokenFile},
	} {
		if file.path != "" {
			checkPath(path+"."+file.key, file.path, r)
		}
	}
	switch {
	case s.AccessKeyFile != "" && s.SecretKeyFile == "":
		r.at(path+".access_key_file", "needs secret_key_file beside it; name both, or none to use what the tools of AWS use")
	case s.AccessKeyFile == "" && s.SecretKeyFile != "":
		r.at(path+".secret_key_file", "needs access_key_file beside it; name both, or none to use what the tools of AWS use")
	case s.AccessKeyFile == "" && s.SessionTokenFile != "":
		r.at(path+".session_token_file", "needs access_key_file and secret_key_file beside it; name all three, or none")
	}
}

// checkBucket reports whether a text can be the name of a bucket, and if not,
// what was probably meant.
func checkBucket(name string) (hint string, ok bool) {
	if rest, isURL := strings.CutPrefix(name, "s3://"); isURL || strings.Contains(name, "/") {
		bucket, prefix, _ := strings.Cut(rest, "/")
		if _, ok := checkBucket(bucket); !ok {
			return "", false
		}
		if prefix == "" {
			return "; write " + bucket, false
		}
		return fmt.Sprintf("; write bucket: %s and prefix: %s", bucket, literal{text: prefix, quoted: true}.show()), false
	}
	if len(name) < minBucket || len(name) > maxBucket {
		return "", false
	}
	if strings.Count(name, ".") == 3 && isDigits(strings.ReplaceAll(name, ".", "")) { // like an IP address
		return "", false
	}
	for i, c := range []byte(name) {
		inside := i > 0 && i < len(name)-1
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case inside && c == '-' && name[i-1] != '.':
		case inside && c == '.' && name[i-1] != '.' && name[i-1] != '-':
		default:
			return "", false
		}
	}
	return "", true
}

// checkEndpoint checks that a text names a server that speaks S3.
func checkEndpoint(path, text string, r *report) {
	if _, err := netip.ParseAddr(text); err == nil {
		return
	}
	address := text
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	switch {
	case err == nil && u.User != nil:
		r.at(path, "must not contain keys; they would end up in logs, name the files that have them in access_key_file and secret_key_file")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "":
		r.at(path, "must be host, host:port, or a URL without a path such as http://minio.example:9000, got %s", literal{text: text, quoted: true}.show())
	}
}

// checkPath checks the path of a file that must be named.
func checkPath(path, text string, r *report) {
	switch {
	case text == "":
		r.at(path, "must be the path of a file")
	case len(text) > maxPath:
		r.at(path, "must be at most %d bytes long, got %d; Linux allows no longer paths", maxPath, len(text))
	case strings.ContainsRune(text, 0):
		r.at(path, "must not contain %q", '\x00')
	}
}
