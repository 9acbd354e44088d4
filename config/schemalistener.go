package config

import "time"

// Listener is one address that clients connect to.
type Listener struct {
	// Name of the listener in logs, metrics and PROXY headers.
	Name string `yaml:"name" derived:"\"mqtt\" for the first listener, else its address"`
	// Address to listen on: `:1883` for all interfaces, `127.0.0.1:1883` or `[::1]:1883` for one.
	Address string `yaml:"address" default:":1883"`
	// Name of the cluster that serves these clients; none with `routes`.
	Cluster string `yaml:"cluster" derived:"the only cluster, without routes"`
	// Several clusters behind this address, such as those of tenants. The first route that matches a client counts; one whom none matches is refused.
	Routes []Route `yaml:"routes" default:"[]" range:"0..1024"`
	// What carries MQTT: TCP, or WebSocket for browsers; both with or without `tls`.
	Transport string `yaml:"transport" default:"tcp" oneof:"tcp|websocket"`
	// Which HTTP requests become a WebSocket, with `transport: websocket`.
	WebSocket ListenerWebSocket `yaml:"websocket"`
	// Load balancers in front of this listener, which tell with a PROXY protocol header who the client is. With this section every connection must begin with such a header, of version 1 or 2; without it, none may.
	ProxyProtocol *TrustedProxies `yaml:"proxy_protocol"`
	// Encryption of the connections of clients.
	TLS ListenerTLS `yaml:"tls" off:"tls: {mode: \"\"}"`
	// What clients may use before and after they are known.
	Limits ListenerLimits `yaml:"limits"`
	// How a client is turned away: the connection is closed, or a CONNACK with the right code for its MQTT version is sent first.
	Refuse string `yaml:"refuse" default:"close" oneof:"close|connack"`
}

// ListenerWebSocket says which HTTP requests become a WebSocket that carries MQTT.
type ListenerWebSocket struct {
	// Path that a request must ask for; what follows behind a `?` does not count. Others are answered 404.
	Path string `yaml:"path" default:"/mqtt"`
	// Sites whose pages may connect, such as `https://app.example` or `https://*.app.example`; `*` stands for any text without a slash. Without any, all may. Clients that are no browser name no site and are let in, so this protects the users of browsers and not the brokers.
	Origins []Origin `yaml:"origins" default:"[]" range:"0..256"`
}

// ListenerTLS says where the encryption of a client's connection ends, and how.
type ListenerTLS struct {
	// `terminate` decrypts here; `passthrough` only reads the name that the client asks for (SNI), and the broker decrypts.
	Mode string `yaml:"mode" default:"" oneof:"terminate|passthrough" zero:"no TLS"`
	// Certificates with their keys. The client's SNI chooses among them; the first is for all that ask for no name or an unknown one. For one name there may be an ECDSA and an RSA certificate: clients that can get ECDSA.
	Certificates []Certificate `yaml:"certificates" default:"[]" range:"0..256"`
	// Oldest version of TLS that clients may speak.
	MinVersion string `yaml:"min_version" default:"1.2" oneof:"1.2|1.3"`
	// File with the certificates of the authorities (PEM) that sign those of clients; read again when it changes.
	ClientCA string `yaml:"client_ca" default:"" file:"read"`
	// Certificates of clients. `request`: who has none is let in, a certificate that `client_ca` did not sign, or that is not valid now, is refused; `require`: everybody needs one.
	ClientAuth string `yaml:"client_auth" default:"none" oneof:"none|request|require"`
	// File with keys for session tickets, for several instances with the same clients: a client can resume its session at any of them. One key per line, 32 to 80 bytes in base64 (`openssl rand -base64 48`); the first encrypts, all decrypt; read again when it changes.
	TicketKeys string `yaml:"ticket_keys" derived:"keys of this process alone, new ones every day" file:"read"`
	// Time for a handshake, from the client's first complete message on; `limits.connect_timeout` bounds it as well.
	HandshakeTimeout time.Duration `yaml:"handshake_timeout" default:"10s" range:"100ms..10m"`
	// How many handshakes may compute at a time; others wait for their turn. Those that wait for their client do not count.
	Handshakes int `yaml:"handshakes" default:"0" range:"1..100000" zero:"twice the number of CPUs"`
}

// Certificate is a certificate and its key.
type Certificate struct {
	// File with the certificate and the intermediate ones that lead to its authority, in this order (PEM); read again when it changes.
	Cert string `yaml:"cert" required:"cert: /etc/mqttlb/tls.crt" file:"read"`
	// File with the private key (PEM, without a passphrase). Only mqttlb should be able to read it.
	Key string `yaml:"key" required:"key: /etc/mqttlb/tls.key" file:"read"`
}

// Route leads some of the clients of a listener to a cluster. All that it has of `sni`, `client_cn`, `username` and
// `client_id` must match; a route without any of them takes everybody, and is the last.
type Route struct {
	// Name of the route in logs and metrics.
	Name string `yaml:"name" derived:"the name of the cluster; with a number if it has several routes"`
	// Name that the client asks for in its TLS handshake (SNI), such as `mqtt.tenant-a.example`. `*.tenant-a.example` stands for one label in front, as in certificates. Needs `tls`.
	SNI string `yaml:"sni" default:""`
	// Regular expression for the common name of the client's certificate, or one of the other names in it (RE2, only `^` and `$` tie it to the ends). Needs `client_auth`.
	ClientCN string `yaml:"client_cn" default:""`
	// The same for the user name in CONNECT. Nobody has checked the password yet.
	Username string `yaml:"username" default:""`
	// The same for the client id.
	ClientID string `yaml:"client_id" default:""`
	// Name of the cluster that serves these clients.
	Cluster string `yaml:"cluster" derived:"the only cluster"`
	// What the clients of this route may use.
	Limits RouteLimits `yaml:"limits"`
}

// RouteLimits bounds what the clients of a route may use.
type RouteLimits struct {
	// Open connections of this route. They count for the limit of the listener too.
	Connections int `yaml:"connections" default:"0" range:"1..10000000" zero:"no bound of its own"`
	// CONNECT packets per second that are let in, instead of the listener's `connects`; with `tls.mode: passthrough`, connections. The clients of other routes do not wait for these.
	Connects Rate `yaml:"connects" default:"0/s" range:"0.1/s..100000/s" zero:"the listener's"`
	// CONNECT packets per second with the same client id. In every route client ids are counted by themselves.
	ConnectsPerClient Rate `yaml:"connects_per_client" default:"0/s" range:"0.001/s..10000/s" zero:"the listener's"`
	// Open connections with the same client id.
	ConnectionsPerClient int `yaml:"connections_per_client" default:"0" range:"1..10000" zero:"the listener's"`
}

// TrustedProxies says who may tell with a PROXY protocol header who the client is.
type TrustedProxies struct {
	// Networks or addresses of the load balancers. Connections from anywhere else are refused: anybody could claim to be any client.
	Trusted []Network `yaml:"trusted" range:"1..256" required:"trusted: [10.0.0.0/24], with the addresses of the load balancers in front, or remove proxy_protocol if there are none"`
}

// ListenerLimits bounds what clients may use before and after they are known.
type ListenerLimits struct {
	// Open connections of this listener; 0 leaves only the limit on descriptors.
	Connections int `yaml:"connections" default:"0" range:"0..10000000"`
	// Time from accepting a connection to its complete CONNECT packet.
	ConnectTimeout time.Duration `yaml:"connect_timeout" default:"10s" range:"100ms..10m"`
	// Largest CONNECT packet. It is held in memory until the broker has answered.
	ConnectSize Size `yaml:"connect_size" default:"64KiB" range:"256B..16MiB"`
	// CONNECT packets per second that are let in, of all clients together; more may come at once only for a moment. Clients above it are not answered and nothing is read from them until it is their turn, which source addresses take in rounds.
	Connects Rate `yaml:"connects" default:"0/s" range:"0.1/s..100000/s" zero:"no bound"`
	// How long a client waits for its turn at most; then it is refused. Keep it below the time after which clients give up.
	ConnectWait time.Duration `yaml:"connect_wait" default:"5s" range:"100ms..5m"`
	// CONNECT packets per second with the same client id, `1/s` for example; two may come at once. Who comes more often is refused. It stops two devices with one client id from taking the session from each other without end.
	ConnectsPerClient Rate `yaml:"connects_per_client" default:"0/s" range:"0.001/s..10000/s" zero:"no bound"`
	// Open connections with the same client id. Leave room for a second one: a client that has lost its connection comes again before anybody knows that the old one is dead.
	ConnectionsPerClient int `yaml:"connections_per_client" default:"0" range:"1..10000" zero:"no bound"`
	// Largest packet from a client, except CONNECT. A client that begins a larger one is disconnected; its broker does not get that packet.
	PacketSize Size `yaml:"packet_size" default:"0B" range:"128B..256MiB" zero:"no bound"`
	// Disconnect a client that has been silent for one and a half times the keep alive of its CONNECT and 10 seconds more, if the broker has not done so. A client whose packets nobody reads, because the broker does not take them, is not silent.
	KeepAlive bool `yaml:"keep_alive" default:"true"`
}
