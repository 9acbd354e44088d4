package main

import (
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/proxy"
)

// webSocket is what a listener says about WebSocket; nil if it takes plain TCP.
func webSocket(l *config.Listener) *proxy.WebSocketOptions {
	if l.Transport != config.TransportWebSocket {
		return nil
	}
	o := &proxy.WebSocketOptions{Path: l.WebSocket.Path}
	for _, origin := range l.WebSocket.Origins {
		o.Origins = append(o.Origins, string(origin))
	}
	return o
}
