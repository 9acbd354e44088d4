//go:build linux

// Package e2e tests mqttlb as its users run it: the built binary, real brokers, real client libraries,
// real signals. Every test states one promise; README.md says what they need and how to run them.
//
//	main_test.go       builds the binary once
//	lb_test.go         one running mqttlb: configuration, log, signals, exit
//	log_test.go        its log, as records
//	process_test.go    child processes, and what /proc tells of them
//	stub_test.go       brokers that the test holds in its hand
//	packet_test.go     MQTT packets, written by hand: an oracle of its own
//	conn_test.go       connections and what is expected of them
//	stream_test.go     endless reproducible bytes, checked to the last one
//	brokers_test.go    mosquitto; rabbitmq_test.go has RabbitMQ
//	hivemq_test.go     HiveMQ Community Edition
//	contract_test.go   what clients see, with and without mqttlb: contractact_test.go has the stage directions,
//	                   contractkits_test.go the clients, contractvenues_test.go the brokers, contractwire_test.go
//	                   what is between them
//	evict_test.go      drains, and what mqttlb tells of them; evictwitness_test.go has what clients and brokers tell
//	view_test.go       what mqttlb thinks of its brokers, and herds of clients
//	nameserver_test.go a DNS server; bucket_test.go is an S3 server, exporter_test.go reports brokers' load
//	tls_test.go        TLS, with real clients and certificates that change; tlsattack_test.go has odd handshakes
//	edge_test.go       TLS, WebSocket, PROXY and tenants together
//	docspage_test.go   blocks of commands on a page, and what they print
//	namespace_test.go  networks that may be broken
//	soakclients_test.go clients that miss nothing, soakbroker_test.go their brokers; soak_test.go is what happens to them
//	scaleswarm_test.go thousands of clients, who come again; scalenotes_test.go what has happened to them, and
//	                   scalebroker_test.go brokers for them
package e2e
