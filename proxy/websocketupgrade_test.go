package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestUpgrade(t *testing.T) {
	t.Parallel()
	open := WebSocketOptions{Path: "/mqtt"}
	ours := WebSocketOptions{Path: "/mqtt", Origins: []string{"https://app.example", "https://*.dash.example:8443"}}
	with := func(key, value string) []byte { return upgradeRequest("GET /mqtt", map[string]string{key: value}) }
	for _, tt := range []struct {
		name    string
		options WebSocketOptions
		request []byte
		status  int
		why     Refusal
		says    string // part of the answer
	}{
		{"plain", open, upgradeRequest("GET /mqtt", nil), 101, "", "Sec-WebSocket-Protocol: mqtt\r\n"},
		{"query", open, upgradeRequest("GET /mqtt?token=x", nil), 101, "", ""},
		{"absolute", open, upgradeRequest("GET http://lb.example/mqtt", nil), 101, "", ""},
		{"MQTT 3.1", open, with("Sec-WebSocket-Protocol", "mqttv3.1"), 101, "", "Sec-WebSocket-Protocol: mqttv3.1\r\n"},
		{"the first that fits", open, with("Sec-WebSocket-Protocol", "chat, mqttv3.1, mqtt"), 101, "", "Sec-WebSocket-Protocol: mqttv3.1\r\n"},
		{"browser", open, upgradeRequest("GET /mqtt", map[string]string{"Connection": "keep-alive, Upgrade", "Origin": "https://evil.example", "Cookie": strings.Repeat("c", 7000)}), 101, "", ""},
		{"other path", open, upgradeRequest("GET /", nil), 404, RefusedPath, "websocket.path"},
		{"longer path", open, upgradeRequest("GET /mqtt/", nil), 404, RefusedPath, ""},
		{"POST", open, upgradeRequest("POST /mqtt", nil), 405, RefusedUpgrade, "Allow: GET\r\n"},
		{"a browser's address line", open, upgradeRequest("GET /mqtt", map[string]string{"Upgrade": "", "Connection": "keep-alive"}), 426, RefusedUpgrade, "Upgrade: websocket\r\n"},
		{"HTTP/2 in plain text", open, with("Upgrade", "h2c"), 426, RefusedUpgrade, ""},
		{"no connection", open, with("Connection", "keep-alive"), 426, RefusedUpgrade, ""},
		{"older version", open, with("Sec-WebSocket-Version", "8"), 426, RefusedUpgrade, "Sec-WebSocket-Version: 13\r\n"},
		{"no version", open, with("Sec-WebSocket-Version", ""), 426, RefusedUpgrade, "Sec-WebSocket-Version: 13\r\n"},
		{"no key", open, with("Sec-WebSocket-Key", ""), 400, RefusedUpgrade, "Sec-WebSocket-Key"},
		{"short key", open, with("Sec-WebSocket-Key", "YWJj"), 400, RefusedUpgrade, "Sec-WebSocket-Key"},
		{"no host", open, with("Host", ""), 400, RefusedUpgrade, "Host"},
		{"no sub-protocol", open, with("Sec-WebSocket-Protocol", ""), 400, RefusedSubprotocol, "Sec-WebSocket-Protocol: mqtt"},
		{"other sub-protocol", open, with("Sec-WebSocket-Protocol", "chat, MQTT"), 400, RefusedSubprotocol, ""},
		{"HTTP/1.0", open, []byte("GET /mqtt HTTP/1.0\r\n\r\n"), 505, RefusedUpgrade, ""},
		{"HTTP/2", open, []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")[:18], 505, RefusedUpgrade, ""},
		{"no field", open, []byte("GET /mqtt HTTP/1.1\r\nnonsense\r\n\r\n"), 400, RefusedUpgrade, ""},
		{"no request line", open, []byte("GET\r\n\r\n"), 400, RefusedUpgrade, ""},
		{"line feeds only", open, with("Cookie", "a\nb"), 400, RefusedUpgrade, ""},
		{"a frame behind it", open, append(with("", ""), frame(2, true, "x")...), 400, RefusedUpgrade, "behind"},
		{"MQTT", open, connect("c"), 400, RefusedUpgrade, "HTTP"},
		{"TLS", open, []byte("\x16\x03\x01\x02\x00\x01"), 400, RefusedUpgrade, "wss"},
		{"8 KiB without an end", open, with("Cookie", strings.Repeat("c", 9000))[:maxUpgrade], 431, RefusedUpgradeSize, "8 KiB"},
		{"more than 8 KiB", open, with("Cookie", strings.Repeat("c", 9000)), 431, RefusedUpgradeSize, ""},
		{"our origin", ours, with("Origin", "https://APP.example"), 101, "", ""},
		{"an origin like ours", ours, with("Origin", "https://eu.dash.example:8443"), 101, "", ""},
		{"no origin", ours, with("Origin", ""), 101, "", ""},
		{"another origin", ours, with("Origin", "https://evil.example"), 403, RefusedOrigin, "websocket.origins"},
		{"an origin with ours in its path", ours, with("Origin", "https://evil.example/.dash.example:8443"), 403, RefusedOrigin, ""},
		{"our origin without TLS", ours, with("Origin", "http://app.example"), 403, RefusedOrigin, ""},
		{"no origin that can be named", ours, with("Origin", "null"), 403, RefusedOrigin, ""},
	} {
		answer, why, complete := tt.options.consider(tt.request)
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
		if err != nil {
			t.Errorf("%s: got %q, which is no answer: %v", tt.name, answer, err)
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.status || why != tt.why || complete != (why == "") || !bytes.Contains(answer, []byte(tt.says)) {
			t.Errorf("%s: got %q and refusal %q, want status %d with %q and refusal %q", tt.name, answer, why, tt.status, tt.says, tt.why)
		}
	}
}

// A request is answered when it is complete, and not before.
func TestUpgradeWaitsForTheWholeRequest(t *testing.T) {
	t.Parallel()
	o := WebSocketOptions{Path: "/mqtt"}
	request := upgradeRequest("GET /elsewhere", nil)
	for n := range request {
		if answer, why, complete := o.consider(request[:n]); answer != nil || why != "" || complete {
			t.Fatalf("after %d of %d bytes: got %q, refusal %q, complete %v; want nothing yet", n, len(request), answer, why, complete)
		}
	}
}

// What comes out of any request is an answer; a request that net/http would not take is never accepted.
func FuzzUpgrade(f *testing.F) {
	for _, request := range [][]byte{
		upgradeRequest("GET /mqtt", nil), upgradeRequest("GET /mqtt", map[string]string{"Origin": "https://app.example"}),
		upgradeRequest("POST /", nil), []byte("GET /mqtt HTTP/1.0\r\n\r\n"), connect("c"), []byte("GET  \r\n:\r\n\r\n"),
		{},
	} {
		f.Add(request)
	}
	o := WebSocketOptions{Path: "/mqtt", Origins: []string{"https://*.example"}}
	f.Fuzz(func(t *testing.T, request []byte) {
		answer, why, complete := o.consider(request)
		if answer == nil {
			if why != "" || complete || len(request) >= maxUpgrade {
				t.Fatalf("got no answer, refusal %q, complete %v after %d bytes", why, complete, len(request))
			}
			return
		}
		response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
		if err != nil {
			t.Fatalf("got %q, which is no answer: %v", answer, err)
		}
		_ = response.Body.Close()
		if (response.StatusCode == http.StatusSwitchingProtocols) != (why == "") || complete != (why == "") {
			t.Fatalf("got status %d with refusal %q, complete %v", response.StatusCode, why, complete)
		}
		if why == "" {
			if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request))); err == nil && (r.Method != http.MethodGet || r.URL.Path != "/mqtt") {
				t.Errorf("accepted %s %s, want GET /mqtt only", r.Method, r.URL.Path)
			}
		}
	})
}

// Every refusal reaches the client and is told.
func TestUpgradeRefused(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	for _, tt := range []struct {
		request []byte
		status  int
		why     Refusal
	}{
		{upgradeRequest("GET /", nil), 404, RefusedPath},
		{upgradeRequest("GET /mqtt", map[string]string{"Cookie": strings.Repeat("c", 20_000)}), 431, RefusedUpgradeSize},
		{connect("c"), 400, RefusedUpgrade},
	} {
		client := r.dial()
		write(t, client, tt.request)
		status, _, advice := refusalOf(t, client)
		if rec := r.record(); status != tt.status || advice == "" || rec.Refusal != tt.why || rec.End != EndProtocol {
			t.Errorf("got status %d with %q, refusal %q and end %v; want %d with advice, %q and protocol", status, advice, rec.Refusal, rec.End, tt.status, tt.why)
		}
	}
}

// A request that dribbles in has the time that a CONNECT has, and no more.
func TestUpgradeTimesOut(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{listener: Listener{ConnectTimeout: 300 * time.Millisecond}})
	client := r.dial()
	write(t, client, upgradeRequest("GET /mqtt", nil)[:100])
	if rec := r.record(); rec.End != EndTimeout || rec.Refusal != RefusedConnectTimeout {
		t.Errorf("got end %v and refusal %q, want timeout and connect_timeout", rec.End, rec.Refusal)
	}
	half := r.dial()
	write(t, half, upgradeRequest("GET /mqtt", nil)[:100])
	_ = half.CloseWrite()
	if rec := r.record(); rec.End != EndClient || rec.Refusal != RefusedIncomplete {
		t.Errorf("got end %v and refusal %q, want client and incomplete", rec.End, rec.Refusal)
	}
}
