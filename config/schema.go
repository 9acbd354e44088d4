package config

import "time"

// Config is a whole configuration, with every default filled in.
type Config struct {
	// Which mqttlb this is, and among how many.
	Instance Instance `yaml:"instance"`
	// What is logged and how.
	Log Log `yaml:"log"`
	// Where operators and monitoring reach this instance.
	Admin Admin `yaml:"admin"`
	// What happens between the signal to stop and the end of the process.
	Shutdown Shutdown `yaml:"shutdown"`
	// The addresses that clients connect to.
	Listeners []Listener `yaml:"listeners" derived:"one listener on :1883" range:"1..256"`
	// The broker clusters that clients are spread over.
	Clusters []Cluster `yaml:"clusters" range:"1..256" required:"clusters: [{discovery: {static: [{address: \"10.0.0.1:1883\"}]}}]"`
}

// Instance says which mqttlb this is, and among how many.
type Instance struct {
	// Name of this instance in logs, metrics and PROXY headers.
	Name string `yaml:"name" derived:"the host name"`
	// Number of this instance among those that share the clients, starting at 0. Must be below `count`.
	Index int `yaml:"index" default:"0" range:"0..1023"`
	// How many instances share the clients. Group placement is rotated and the drain budget divided by it.
	Count int `yaml:"count" default:"1" range:"1..1024"`
	// Secret that is mixed into the hash of client ids, so that nobody can craft ids that all land on one backend. All instances in front of the same brokers need the same one.
	HashKey Secret `yaml:"hash_key" default:""`
	// File that keeps what was learned of clients (`learn` under `placement.groups`) over a restart; `""` keeps nothing. mqttlb writes it anew, through a file beside it, so its folder must exist and be writable. A change takes effect after a restart.
	StateFile string `yaml:"state_file" default:""`
}

// Log says what is logged and how.
type Log struct {
	// Lines below this level are not written.
	Level string `yaml:"level" default:"info" oneof:"debug|info|warn|error"`
	// `text` is key=value, `json` is one object per line.
	Format string `yaml:"format" default:"text" oneof:"text|json"`
	// Write the access log: one line when a connection ends.
	Clients bool `yaml:"clients" default:"true"`
	// How client ids appear in the log: as they are, as a hash, or not at all. They can be personal data.
	ClientID string `yaml:"client_id" default:"full" oneof:"full|hash|off"`
}

// Admin says where operators and monitoring reach this instance.
type Admin struct {
	// Address of metrics, health checks, the web page and the read-only API; `""` turns it off.
	Address string `yaml:"address" default:"127.0.0.1:9180"`
	// Path of the unix socket with the full API; `""` turns it off.
	Socket string `yaml:"socket" derived:"/run/mqttlb/admin.sock, when that folder exists"`
	// File with the bearer token that allows the full API over `address`; without it that API is read-only.
	TokenFile string `yaml:"token_file" default:"" file:"read"`
}

// Shutdown says what happens between the signal to stop and the end of the process.
type Shutdown struct {
	// How long new clients are still accepted after readiness has failed, so that whatever is in front can look elsewhere.
	Grace time.Duration `yaml:"grace" default:"10s" range:"0s..1h"`
	// How long closing the remaining connections may take, spread evenly.
	Drain time.Duration `yaml:"drain" default:"5m" range:"0s..24h"`
}
