package main

import "slices"

// scenarios are all of them, in the order of the table.
var scenarios = slices.Concat(loadScenarios, tlsScenarios, growthScenarios, fleetScenarios)

// Fewer rounds are enough where a measurement lasts long or varies little.
const (
	fewRounds  = 3
	twoRounds  = 2
	memoryOnly = 1 // of a row that varies by less than a percent
)

// loadScenarios are what one load generator does to one proxy, without TLS.
var loadScenarios = []scenario{
	{
		name: "pingpong-1", title: "1 connection, one message under way; client, proxy and broker on one core", mode: modePingPong,
		args: []string{"-connections", "1"}, stretch: 1, rounds: fewRounds, oneCore: true,
	},
	{
		name: "pingpong-50", title: "50 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "50"}, stretch: 1,
	},
	{
		name: "pingpong-1000", group: wordGrowth, title: "1000 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "1000"}, stretch: 1,
	},
	{
		name: "pingpong-5000", title: "5000 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "5000"}, stretch: 1, rounds: fewRounds,
	},
	{
		name: "paced-200", title: "200 round trips/s over 200 connections", mode: modePaced,
		args: []string{"-connections", "200", "-rate", "200"}, stretch: 4, rounds: fewRounds,
	},
	{
		name: "paced-2000", group: wordGrowth, title: "2000 round trips/s over 1000 connections", mode: modePaced,
		args: []string{"-connections", "1000", "-rate", "2000"}, stretch: 2,
	},
	{
		name: "paced-20000", title: "20 000 round trips/s over 1000 connections", mode: modePaced,
		args: []string{"-connections", "1000", "-rate", "20000"}, stretch: 1, rounds: fewRounds,
	},
	{
		name: "connect", title: "connect, CONNECT, CONNACK, DISCONNECT, close; 16 at a time", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1,
	},
	{
		name: "bulk", title: "messages of 64 KiB over 2 connections", mode: modeBulk, stretch: 1, rounds: fewRounds,
	},
	{
		name: "idle", title: "5000 idle sessions", mode: modeIdle,
		args: []string{"-connections", "5000", "-fewer", "1000"}, rounds: fewRounds,
	},
}

// tlsScenarios are those over TLS.
var tlsScenarios = []scenario{
	{
		name: "tls-connect", title: "TLS 1.3, ECDSA: connect, full handshake, CONNECT, CONNACK, DISCONNECT, close; 16 at a time", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, rounds: fewRounds, tls: &overTLS{keyECDSA, "1.3", groupX25519},
	},
	{
		name: "tls-connect-12", title: "the same with TLS 1.2, ECDSA", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, rounds: fewRounds, tls: &overTLS{keyECDSA, "1.2", groupX25519}, only: proxies,
	},
	{
		name: "tls-connect-rsa", title: "the same with TLS 1.3, RSA-2048", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, rounds: fewRounds, tls: &overTLS{keyRSA, "1.3", groupX25519}, only: proxies,
	},
	{
		name: "tls-connect-mlkem", title: "the same with TLS 1.3, ECDSA, and X25519MLKEM768, which the others lack", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, rounds: fewRounds, tls: &overTLS{keyECDSA, "1.3", groupMLKEM}, only: []string{envoy, mqttlb},
	},
	{
		name: "tls-pingpong", title: "TLS 1.3: 1000 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "1000"}, stretch: 1, rounds: fewRounds, tls: &overTLS{keyECDSA, "1.3", groupX25519}, only: proxies,
	},
	{
		name: "tls-idle", title: "TLS 1.3: 5000 idle sessions", mode: modeIdle,
		args: []string{"-connections", "5000", "-fewer", "1000"}, rounds: twoRounds, tls: &overTLS{keyECDSA, "1.3", groupX25519},
	},
	{
		name: "tls-idle-mlkem", title: "the same with X25519MLKEM768", mode: modeIdle,
		args: []string{"-connections", "5000", "-fewer", "1000"}, rounds: memoryOnly, tls: &overTLS{keyECDSA, "1.3", groupMLKEM}, only: []string{envoy, mqttlb},
	},
}
