package config

import "time"

// Cluster is one broker cluster.
type Cluster struct {
	// Name of the cluster in logs, metrics and commands.
	Name string `yaml:"name" derived:"\"default\" when it is the only cluster"`
	// Which backends exist. Exactly one source.
	Discovery Discovery `yaml:"discovery"`
	// Which client goes to which backend.
	Placement Placement `yaml:"placement"`
	// What the brokers report about their load. It counts for `metric-wrr`, and takes new clients away from a broker that is overloaded. Off without `preset`, `figures`, `hot.metric` and `version`.
	Load BrokerLoad `yaml:"load" off:"load: {}"`
	// How mqttlb finds out which brokers work; the others get no clients.
	Health Health `yaml:"health" off:"health: {interval: 0}"`
	// Slow start: how long the share of a broker that has begun to take clients grows until it is whole. It needs health checks.
	Ramp time.Duration `yaml:"ramp" default:"2m" range:"1s..1h" zero:"no slow start"`
	// How long a broker that has joined or come back must be healthy without a break before it takes clients. It needs health checks.
	Settle time.Duration `yaml:"settle" default:"30s" range:"1s..1h" zero:"no wait"`
	// The PROXY protocol header that tells the brokers who the client is.
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
	// Encryption of the connections to the brokers.
	TLS ClusterTLS `yaml:"tls" off:"tls: {enabled: false}"`
	// What a connection to a backend may take.
	Limits ClusterLimits `yaml:"limits"`
	// When clients are kept from a broker that fails or declines them. Attempts count that did not lead to a connection, brokers that are silent after CONNECT, and a CONNACK that blames the broker; refused credentials never do.
	Breaker Breaker `yaml:"breaker"`
	// Addresses of this host to dial the brokers from, in turn: from each, about 28 000 connections to one broker are possible. One without a free port rests for a second while the others go on. Without any, the kernel chooses.
	SourceAddresses []IP `yaml:"source_addresses" default:"[]" range:"0..256"`
	// How clients are moved to other brokers: at which pace, and what becomes of their wills.
	Drain Drain `yaml:"drain"`
	// When clients are moved although their broker is well.
	Rebalance Rebalance `yaml:"rebalance"`
}

// Discovery says which backends exist. Exactly one of the sources is there.
type Discovery struct {
	// The backends, written down here. Host names are resolved again every 30 seconds.
	Static []Backend `yaml:"static" range:"1..4096"`
	// The same list in a file of its own, which is watched.
	File *FileSource `yaml:"file"`
	// The records of a DNS name.
	DNS *DNSSource `yaml:"dns"`
	// The objects that HiveMQ's S3 cluster discovery extension writes, one for each broker.
	S3 *S3Source `yaml:"s3"`
}

// Backend is one broker.
type Backend struct {
	// Name of the backend. Clients are placed by name, so a backend that keeps its name keeps its clients when its address changes.
	Name string `yaml:"name" derived:"the address"`
	// Host and port of the broker.
	Address string `yaml:"address" required:"address: \"10.0.0.1:1883\"" also:"host|server|url"`
	// Share of the clients, relative to the other backends.
	Capacity float64 `yaml:"capacity" default:"1" range:"0.001..1000000" also:"weight"`
	// Free labels of the backend, such as its version or zone.
	Labels map[string]string `yaml:"labels" default:"{}"`
}

// FileSource is a list of backends in a file.
type FileSource struct {
	// The file: a list of backends as under `static`, in YAML or JSON. Write a new file and rename it to this one. A file that cannot be read or is no such list changes nothing.
	Path string `yaml:"path" required:"path: /etc/mqttlb/backends.yaml" file:"read"`
}

// DNSSource is the records of a DNS name.
type DNSSource struct {
	// The name to ask for. For `SRV` it is the whole name, such as `_mqtt._tcp.hivemq.example`.
	Name string `yaml:"name" required:"name: hivemq-cluster"`
	// Type of the records. With `A` and `AAAA` the address is the name of a backend; with `SRV` it is the host name of the target, which keeps its clients when its address changes. Weights of `SRV` records become capacities, and only those of the lowest priority count.
	Type string `yaml:"type" default:"A" oneof:"A|AAAA|SRV"`
	// Port of the brokers. With `SRV` the records have it.
	Port int `yaml:"port" derived:"1883; none with SRV" range:"1..65535" zero:"the port of the SRV record"`
	// Time between two questions, give or take a tenth. After a failure it is a second, and grows up to this.
	Interval time.Duration `yaml:"interval" default:"30s" range:"1s..1h"`
	// IP address of the DNS server, with or without a port.
	Server string `yaml:"server" derived:"the servers of the system"`
}

// S3Source is the objects of HiveMQ's S3 cluster discovery extension.
type S3Source struct {
	// Name of the bucket, the extension's `s3-bucket-name`. Reading it needs `s3:ListBucket` and `s3:GetObject`.
	Bucket string `yaml:"bucket" required:"bucket: hivemq-discovery"`
	// How the names of the objects begin, the extension's `file-prefix`. There should be nothing else under it.
	Prefix string `yaml:"prefix" default:""`
	// Server that speaks S3: host, host:port, or a URL without a path; `https` unless the URL says otherwise.
	Endpoint string `yaml:"endpoint" derived:"that of Amazon"`
	// Region of the bucket.
	Region string `yaml:"region" derived:"the server is asked, which needs s3:GetBucketLocation"`
	// Port of the brokers for clients. The objects do not have it.
	Port int `yaml:"port" default:"1883" range:"1..65535"`
	// Time between two readings, give or take a tenth. After a failure it is a second, and grows up to this.
	Interval time.Duration `yaml:"interval" default:"60s" range:"1s..1h"`
	// Age from which on an object does not count, the extension's `file-expiration`. The clocks of the brokers and of this host must agree.
	Expiration time.Duration `yaml:"expiration" default:"6m" range:"10s..24h" zero:"no expiration"`
	// File with the access key. It is read each time, as are the two below.
	AccessKeyFile string `yaml:"access_key_file" derived:"where the tools of AWS look: environment, shared files, web identity, container, instance" file:"read"`
	// File with the secret key that belongs to it.
	SecretKeyFile string `yaml:"secret_key_file" default:"" file:"read"`
	// File with the session token, if the keys are temporary.
	SessionTokenFile string `yaml:"session_token_file" default:"" file:"read"`
}

// Placement says which client goes to which backend.
type Placement struct {
	// `client-hash` and `maglev` keep a client on the same backend, `metric-wrr`, `least-connections`, `round-robin` and `random` spread without memory, `adaptive` chooses according to the state of the cluster and the kind of the client. Members of a group are placed by their group, whatever is said here.
	Strategy string `yaml:"strategy" default:"adaptive" oneof:"adaptive|client-hash|maglev|metric-wrr|least-connections|round-robin|random"`
	// Where a session lives: `cluster` when every broker can take over the session of a client, `node` when it stays on the broker that has it and is lost when the client goes to another one. Then clients with a persistent session always go home, unless home is down, and groups do not count for them. `node` needs a strategy that keeps clients: `adaptive`, `client-hash` or `maglev`.
	SessionScope string `yaml:"session_scope" default:"cluster" oneof:"cluster|node"`
	// A backend with this many times the average connections gets no more clients by hash; they spill to their next choice.
	BoundedLoad float64 `yaml:"bounded_load" default:"1.25" range:"1..10" zero:"no bound"`
	// How clients without a client id are placed.
	Anonymous string `yaml:"anonymous" default:"metric-wrr" oneof:"metric-wrr|round-robin|least-connections"`
	// Who is a member of a shared-subscription group. The members of a group are spread over the backends as evenly as possible, and one that comes back soon finds its seat. The first rule that matches counts.
	Groups []GroupRule `yaml:"groups" default:"[]" range:"0..64"`
	// How long a seat is kept for a member of a group that is away; 2 minutes at least while brokers are being updated.
	SeatLease time.Duration `yaml:"seat_lease" default:"30s" range:"1s..1h" zero:"no lease"`
	// `server-reference` answers MQTT 5 clients with the advertised address of their backend (CONNACK 0x9C, Use another server), and they go there by themselves. It is the label `advertise` of the backend, such as `mqtt-1.example.com:8883`, else the host and port by which it was discovered; clients must be able to reach it. Members of groups, clients without an id, older clients and those that come again within ten minutes are relayed.
	Redirect string `yaml:"redirect" default:"off" oneof:"off|server-reference"`
}

// GroupRule says which clients are members of a group. Each rule has exactly one of the keys.
type GroupRule struct {
	// Regular expression for client ids (RE2; only `^` and `$` tie it to the ends), with `(?P<group>…)` around the name of the group, of at most 128 bytes. `(?P<ord>…)` around the number of a member, from 0 without gaps, makes the spread exact over any number of instances.
	ClientID string `yaml:"client_id" default:""`
	// The same for user names.
	Username string `yaml:"username" default:""`
	// Name of a user property in the CONNECT packet of MQTT 5 whose value is the name of the group.
	UserProperty string `yaml:"user_property" default:""`
	// Learn the groups from the SUBSCRIBE packets that pass through, with `$share/<group>/…`. A client counts as a member from then on and is placed by its group when it connects again. Of several groups the first counts. Rules before this one count more, and rules behind it only until something was learned.
	Learn bool `yaml:"learn" default:"false"`
}

// BrokerLoad says what the brokers report about their load, and where.
type BrokerLoad struct {
	// Kind of broker: fills in `url`, `figures`, `hot.metric` and `version`, each unless it is set. All of them read a figure of the CPU: `hivemq` needs the Platform with its Prometheus extension, `prometheus` is the node_exporter on the broker's host. Only `rabbitmq` has a hot metric, its resource alarm, and a version.
	Preset string `yaml:"preset" default:"" oneof:"hivemq|emqx|rabbitmq|vernemq|prometheus" zero:"none"`
	// Where the metrics of a broker are, in the Prometheus text format, with the placeholders `{host}` `{port}` `{name}` `{label.KEY}`; `{port}` is that of MQTT.
	URL string `yaml:"url" derived:"the preset's, such as http://{host}:9399/metrics"`
	// Time between two readings of one broker.
	Interval time.Duration `yaml:"interval" default:"15s" range:"1s..1h"`
	// Time for one reading; at most the interval.
	Timeout time.Duration `yaml:"timeout" derived:"10s, or the interval if that is shorter" range:"10ms..1h"`
	// Time over which the load that steers placement is a mean; from the interval to 1000 times that.
	Window time.Duration `yaml:"window" derived:"5m, or the interval if that is longer" range:"1s..24h"`
	// What the load of a broker is made of: the mean of all figures by their weights, each divided by its scale.
	Figures []Figure `yaml:"figures" derived:"the preset's" range:"0..32"`
	// A metric that alone can say that a broker has enough.
	Hot Hot `yaml:"hot"`
	// Where a broker says its version, for brokers to which discovery gives no label `version`: it becomes that label. While there are two versions in a cluster it is updated, and its state is ROLLING.
	Version BrokerVersion `yaml:"version"`
	// File with a bearer token to send; it is read each time.
	BearerTokenFile string `yaml:"bearer_token_file" default:"" file:"read"`
	// User name to send, together with `password_file`.
	Username string `yaml:"username" default:""`
	// File with the password; it is read each time.
	PasswordFile string `yaml:"password_file" default:"" file:"read"`
}

// Figure is one part of the load of a broker.
type Figure struct {
	// The metric: `NAME`, `NAME{label="value"}`, or `rate(NAME)` for a counter, which is per second; up to four of them with `/` between. All series that fit are added up.
	Metric string `yaml:"metric" required:"metric: com_hivemq_system_os_global_cpu_total_total"`
	// Value that means fully loaded.
	Scale float64 `yaml:"scale" default:"1" range:"0.000001..1000000000000000"`
	// Weight of the figure in the mean.
	Weight float64 `yaml:"weight" default:"1" range:"0.001..1000000"`
}

// Hot says when a broker is overloaded by its own account.
type Hot struct {
	// The metric, written as in `figures`; of the broker itself, not of its cluster.
	Metric string `yaml:"metric" derived:"the preset's, if it has one"`
	// From this value on, three readings in a row, a broker gets new clients only when no other can take them.
	Enter float64 `yaml:"enter" default:"5" range:"0..1000000000"`
	// It gets clients again when the value has been at most this for two minutes; below `enter`.
	Leave float64 `yaml:"leave" default:"3" range:"0..1000000000"`
}

// BrokerVersion says which label of which metric is the version of a broker.
type BrokerVersion struct {
	// The metric, `NAME` or `NAME{label="value"}`; of several series the first counts. A version that cannot be read any more stays as it was until the broker leaves or gets another address.
	Metric string `yaml:"metric" derived:"the preset's, if it has one"`
	// The label of the metric whose value is the version, such as `rabbitmq_version`. A value longer than 64 bytes is ignored.
	Label string `yaml:"label" derived:"the preset's, if it has one"`
}

// Health says how brokers are checked. At most one of the probes is given; the default is MQTT.
type Health struct {
	// Time from one check of a broker to the next, give or take a tenth.
	Interval time.Duration `yaml:"interval" default:"5s" range:"100ms..1h" zero:"no checks"`
	// Time for one check; at most the interval.
	Timeout time.Duration `yaml:"timeout" derived:"3s, or the interval if that is shorter" range:"10ms..1h"`
	// Checks in a row that must pass before a broker that was down counts as healthy.
	Rise int `yaml:"rise" default:"2" range:"1..100"`
	// Checks in a row that must fail before a broker counts as down.
	Fall int `yaml:"fall" default:"3" range:"1..100"`
	// Connect as a client does: CONNECT, CONNACK, DISCONNECT.
	MQTT *MQTTProbe `yaml:"mqtt" derived:"this probe, unless another is given"`
	// Ask an HTTP endpoint; a status from 200 to 299 passes.
	HTTP *HTTPProbe `yaml:"http"`
	// Open a TCP connection, which also succeeds when a broker hangs.
	TCP *TCPProbe `yaml:"tcp"`
}

// MQTTProbe connects as a client does.
type MQTTProbe struct {
	// Client id of the probe, with the placeholders `{instance}` `{name}` `{host}` `{port}` `{label.KEY}` of the backend. Without `{name}` the probes of two brokers of one cluster would end each other.
	ClientID string `yaml:"client_id" default:"mqttlb-health-{instance}-{name}"`
	// User name of the probe. Without a user name and a password, a broker that refuses the probe for them counts as healthy; with them, it does not.
	Username string `yaml:"username" default:""`
	// File with the password of the probe; it is read each time.
	PasswordFile string `yaml:"password_file" default:"" file:"read"`
}

// HTTPProbe asks an HTTP endpoint.
type HTTPProbe struct {
	// What to GET, with the placeholders `{instance}` `{name}` `{host}` `{port}` `{label.KEY}`; `{port}` is that of MQTT. The default is the readiness of HiveMQ. Redirects are not followed. Of a path that ends in `/load_rebalance/availability_check`, as with EMQX, status 503 means that the broker wants to lose its clients.
	URL string `yaml:"url" default:"http://{host}:8889/api/v1/health/readiness"`
}

// TCPProbe opens a TCP connection.
type TCPProbe struct{}

// ProxyProtocol says which PROXY header the backends get.
type ProxyProtocol struct {
	// Version of the header; 0 sends none. The brokers must expect what is sent. Version 1 tells the addresses alone, and all keys below are about version 2.
	Version int `yaml:"version" default:"0" oneof:"0|1|2"`
	// Send the server name that the client has asked for (SNI) as AUTHORITY, also where TLS is passed through.
	Authority bool `yaml:"authority" default:"true"`
	// Send the protocol that TLS with the client has agreed upon as ALPN.
	ALPN bool `yaml:"alpn" default:"true"`
	// Send how the client came over TLS as SSL: version, cipher suite, and whether its certificate was verified.
	SSL bool `yaml:"ssl" default:"true"`
	// Also send the common name of the client's verified certificate. VerneMQ takes it for the user name, EMQX and mosquitto can be told to.
	SSLCN bool `yaml:"ssl_cn" default:"false"`
	// Send the id of the connection, the same as in the access log, as UNIQUE_ID.
	UniqueID bool `yaml:"unique_id" default:"true"`
	// Further values for the brokers.
	Custom []TLV `yaml:"custom" default:"[]" range:"0..16"`
	// Send a checksum of the header as CRC32C.
	CRC32C bool `yaml:"crc32c" default:"false"`
	// Bound of the header in bytes, from the addresses on. Values that do not fit are left out. Mosquitto refuses more than 500 bytes.
	MaxSize int `yaml:"max_size" default:"500" range:"43..4096"`
}

// TLV is one custom value of a PROXY header.
type TLV struct {
	// Type of the value; each may be used once. 0xE0, 0xEA and 0xEE are in use by cloud providers.
	Type byte `yaml:"type" required:"type: 0xE4" range:"0xE0..0xEF"`
	// The value: text with the placeholders `{instance}` `{listener}` `{client_id}` `{group}` `{strategy}` `{attempt}`.
	Value string `yaml:"value" required:"value: \"{instance}\""`
}

// ClusterTLS says how the connections to the brokers are encrypted.
type ClusterTLS struct {
	// Speak TLS with the brokers, clients' connections and MQTT health checks alike. Clients of listeners with `tls.mode: passthrough` bring their own.
	Enabled bool `yaml:"enabled" default:"false"`
	// File with the certificates of the authorities (PEM) that sign those of the brokers; read again when it changes, as are the two below.
	CA string `yaml:"ca" derived:"the authorities that this host trusts" file:"read"`
	// File with the certificate that mqttlb shows to the brokers (PEM).
	Cert string `yaml:"cert" default:"" file:"read"`
	// File with its private key (PEM, without a passphrase).
	Key string `yaml:"key" default:"" file:"read"`
	// Name that the brokers' certificates must have, and that is sent as SNI.
	ServerName string `yaml:"server_name" derived:"the host of the broker's address: a name, or the IP address that discovery found"`
	// Check the brokers' certificates. Without it anybody between mqttlb and a broker can read and change everything; a warning says so at every start.
	Verify bool `yaml:"verify" default:"true"`
}

// ClusterLimits bounds what a connection to a backend may take.
type ClusterLimits struct {
	// Connections that each backend may have, those from this instance. One that has as many gets no client; if all have, clients are refused.
	ConnectionsPerBackend int `yaml:"connections_per_backend" default:"0" range:"1..10000000" zero:"no bound"`
	// CONNECT packets per second that are let in while the cluster is overloaded, of clients of which it has nothing: no session, no place in a group, none that a plan has for them. The others come first and are not bounded.
	OverloadedConnects Rate `yaml:"overloaded_connects" default:"100/s" range:"0.1/s..100000/s" zero:"no bound"`
	// Time to establish a connection, all attempts of a client together. An attempt after which another backend could be tried has half of what is left.
	DialTimeout time.Duration `yaml:"dial_timeout" default:"3s" range:"10ms..5m"`
	// How many backends are tried for one client: the next one if a connection cannot be established, or if a broker answers CONNECT with a code that says busy, full or elsewhere. Retries are limited to a tenth of the clients that come and 10 per second besides.
	Attempts int `yaml:"attempts" default:"3" range:"1..10"`
	// Time from sending CONNECT to the first byte of the answer.
	FirstByteTimeout time.Duration `yaml:"first_byte_timeout" default:"15s" range:"100ms..10m"`
}

// Breaker says when the circuit of a broker opens.
type Breaker struct {
	// Failures in a row that open the circuit, if they are at least `failure_ratio` of the window, and as many different clients in a row that the broker declines because it is busy. With health checks, failures also make the broker `down`.
	ConsecutiveFailures int `yaml:"consecutive_failures" default:"5" range:"1..1000"`
	// Part of all attempts in the window that must be exceeded by failures.
	FailureRatio float64 `yaml:"failure_ratio" default:"0.5" range:"0.01..1"`
	// From how many attempts in the window on the ratio alone opens the circuit.
	MinRequests int `yaml:"min_requests" default:"20" range:"1..100000"`
	// How long an attempt counts.
	Window time.Duration `yaml:"window" default:"10s" range:"1s..10m"`
	// How long an open circuit keeps clients away if there is another broker for them. After that one client a second may try, until one is served.
	Open time.Duration `yaml:"open" default:"5s" range:"100ms..10m" zero:"no circuits"`
}

// Drain says how clients are moved to other brokers.
type Drain struct {
	// Clients per second that are moved in the whole cluster, whatever for. One broker loses at most half as many. Each instance takes its part, see `instance.count`. `mqttlb drain --rate` sets the rate of one broker.
	Rate Rate `yaml:"rate" default:"100/s" range:"0.01/s..10000/s"`
	// Clients that may be away at once: part of all connections, though at least 10 clients, or a number. Nobody else is moved until some of them are back.
	InFlight Amount `yaml:"in_flight" default:"2%" range:"0.01%..1000000"`
	// What becomes of the will of a client when its broker is emptied. `skip`: clients whose will would be published stay, and the broker does not become empty. `publish`: they are moved, and the broker publishes the will. `suppress`: the broker is told DISCONNECT in the name of the client, so that it does not; nobody hears then of a client that does not come back. A will with a delay, in MQTT 5, is never published if the client is back in time.
	Will string `yaml:"will" default:"publish" oneof:"skip|publish|suppress"`
	// Whether clients are told before their connection is closed. `disconnect5` sends those that speak MQTT 5 a DISCONNECT with a reason; some libraries give up then. Closing alone is what all of them understand.
	Notify string `yaml:"notify" default:"none" oneof:"none|disconnect5"`
	// Clients that have connected later than this are not moved.
	MinAge time.Duration `yaml:"min_age" default:"60s" range:"1s..24h" zero:"any age"`
	// How long a broker that discovery does not name any more keeps its clients, unless it was being emptied before: what is missing in one answer may be in the next. New clients do not go there.
	Absence time.Duration `yaml:"absence" default:"30s" range:"1s..24h" zero:"not at all"`
	// How long after the begin of a drain all that are left are moved whatever their wills and however young they are, and those cut off that never stand between two packets, up to half a minute later: what is cut off may be lost.
	Deadline time.Duration `yaml:"deadline" default:"0s" range:"1s..24h" zero:"never"`
}

// Rebalance says when clients are moved although their broker is well.
type Rebalance struct {
	// Move clients without being asked: to a broker that has joined, away from an overloaded one, and between the members of a group. Off, only `mqttlb rebalance` does; brokers that drain are emptied in any case.
	Auto bool `yaml:"auto" default:"true"`
	// By how much the connections of a broker may differ from its fair share. Clients that have to leave a drained broker are spread within it, too, where placement goes by the client id.
	Imbalance Percent `yaml:"imbalance" default:"5%" range:"1%..50%"`
	// What becomes of wills, as under `drain.will`.
	Will string `yaml:"will" default:"skip" oneof:"skip|publish|suppress"`
}
