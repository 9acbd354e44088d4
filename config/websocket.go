package config

import "strings"

// TransportWebSocket is what a listener's transport is for MQTT over WebSocket.
const TransportWebSocket = "websocket"

const defaultWebSocketPath = "/mqtt"

// validateWebSocket checks what a listener says about WebSocket.
func validateWebSocket(path string, l *Listener, r *report) {
	if !r.sound(path + ".transport") {
		return
	}
	at := path + ".websocket.path"
	switch w := &l.WebSocket; {
	case l.Transport != TransportWebSocket:
		if len(w.Origins) > 0 { // whoever forgets the transport must not believe that pages are kept away
			r.about(path+".transport", "is %s, but there is websocket.origins; write transport: websocket", l.Transport)
		} else if w.Path != defaultWebSocketPath {
			r.about(path+".transport", "is %s, but there is websocket.path; write transport: websocket", l.Transport)
		}
	case l.TLS.Mode == TLSPassthrough:
		r.at(path+".transport", "cannot be websocket with tls.mode passthrough, in which mqttlb sees no HTTP; write tls: {mode: terminate}")
	case !strings.HasPrefix(w.Path, "/"):
		r.at(at, "must begin with a slash, got %s; write /mqtt", literal{text: w.Path, quoted: true}.show())
	case strings.ContainsAny(w.Path, "?#% "):
		r.at(at, "must be a path without a query and without escapes, got %s", literal{text: w.Path, quoted: true}.show())
	}
}
