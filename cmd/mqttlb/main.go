// Command mqttlb is the load balancer that understands MQTT.
//
// This package is the wiring: it turns flags and the configuration file into the parts of the other
// packages, connects them, and lets them go in order. Nothing is decided here. It is the only place that
// reads config, and main is the only function that ends the process.
//
//	root.go       the command tree, exit statuses
//	run.go        mqttlb run: signals, and the order of start and stop
//	app.go        one running mqttlb: clusters, proxy, metrics, admin
//	site.go       one cluster with what works for it in the background; which clusters there are
//	reconfigure.go  from the configuration that runs to the next one
//	sources.go    discovery: from the configuration to the backends of a cluster
//	supervisor.go  what systemd is told; passed.go: the sockets that it has opened
//	statefile.go  what was learned of clients, kept over a restart
//	tls.go        certificates and settings for listeners and clusters; handshakelog.go, how often failures are told of
//	listeners.go, websocket.go  a listener, from the configuration to the proxy's
//	memory.go     how much memory there is, memorygroup.go: by the control group; garbage.go paces the collector
//	vet.go        what is wrong in a configuration that only other packages can tell
//	observe.go    from the events of the data path to metrics and the access log
//	check.go …    one file per further command; client.go asks the admin API for them, table.go prints
//	demo.go …     mqttlb demo
package main

import "os"

func main() {
	os.Exit(execute(os.Args[1:], systemEnvironment()))
}
