package config

import (
	"net/netip"
	"strings"
)

// The modes of TLS on a listener.
const (
	TLSTerminate   = "terminate"
	TLSPassthrough = "passthrough"
)

// validateListenerTLS checks what belongs together. The files themselves are for Options.Check.
func validateListenerTLS(path string, t *ListenerTLS, r *report) {
	if !r.sound(path + ".mode") {
		return
	}
	if t.Mode != TLSTerminate {
		var given []string
		for _, key := range []struct {
			name  string
			given bool
		}{
			{"certificates", len(t.Certificates) > 0},
			{"client_ca", t.ClientCA != ""},
			{"client_auth", t.ClientAuth != "none"},
			{"ticket_keys", t.TicketKeys != ""},
		} {
			if key.given {
				given = append(given, key.name)
			}
		}
		switch {
		case len(given) == 0:
		case t.Mode == TLSPassthrough:
			r.at(path+"."+given[0], "cannot be used with mode: passthrough, in which the brokers have the certificates; remove %s, or write mode: terminate",
				strings.Join(given, " and "))
		default: // whoever forgets the mode must not get a listener without encryption
			r.about(path+".mode", "is missing, but there is %s; write mode: terminate", strings.Join(given, " and "))
		}
		return
	}
	if len(t.Certificates) == 0 {
		r.at(path+".certificates", "is missing; write certificates: [{cert: /etc/mqttlb/tls.crt, key: /etc/mqttlb/tls.key}]")
	}
	files := uniqueness{what: "each certificate is named once"}
	for i, c := range t.Certificates {
		at := item(path+".certificates", i)
		checkPEM(at+".cert", c.Cert, r)
		checkPEM(at+".key", c.Key, r)
		files.check(at+".cert", c.Cert, r)
	}
	switch {
	case !r.sound(path + ".client_auth"):
	case t.ClientAuth != "none" && t.ClientCA == "":
		r.at(path+".client_ca", "is missing: client_auth is %s, which needs the file with the authorities that sign the certificates of clients", t.ClientAuth)
	case t.ClientAuth == "none" && t.ClientCA != "":
		r.at(path+".client_ca", "has no effect, as no client is asked for a certificate; write client_auth: require, or request")
	}
}

func validateClusterTLS(path string, t *ClusterTLS, r *report) {
	switch {
	case t.Cert != "" && t.Key == "":
		r.at(path+".key", "is missing: the private key of cert")
	case t.Key != "" && t.Cert == "":
		r.at(path+".cert", "is missing: the certificate of key")
	}
	if !t.Verify && t.CA != "" {
		r.at(path+".ca", "has no effect with verify: false; remove one of the two")
	}
	if t.ServerName == "" {
		return
	}
	if host, ok := canonicalHost(t.ServerName); !ok || strings.ContainsAny(host, "/ ") {
		r.at(path+".server_name", "must be a host name or an IP address without a port, got %s", literal{text: t.ServerName, quoted: true}.show())
	} else if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() != "" {
		r.at(path+".server_name", "must be an IP address without a zone, got %s", literal{text: t.ServerName, quoted: true}.show())
	}
}

// checkPEM checks that the path of a file is there.
func checkPEM(path, file string, r *report) {
	if file == "" {
		r.at(path, "must be the path of a file, got \"\"")
	}
}
