package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gobwas/ws"
)

// WebSocketOptions say which HTTP requests a listener makes WebSockets of.
type WebSocketOptions struct {
	// Path is the one that a request must have; what follows it behind a question mark does not count.
	Path string
	// Origins are the sites whose pages may connect, such as https://app.example; one * in it stands for any text without a
	// slash. None allows all. Only browsers say what their origin is; a client that says none is let in.
	Origins []string
}

// equal tells whether the options say the same.
func (o *WebSocketOptions) equal(other *WebSocketOptions) bool {
	if o == nil || other == nil {
		return o == other
	}
	return o.Path == other.Path && slices.Equal(o.Origins, other.Origins)
}

// The sub-protocols that are accepted. mqtt is that of the standard (MQTT-6.0.0-3); mqttv3.1 is older than it, and what
// brokers accept beside it for old clients.
const (
	protocolMQTT  = "mqtt"
	protocolMQTT3 = "mqttv3.1"
)

// An upgradeError is why a request is no way to a WebSocket, and how that is answered.
type upgradeError struct {
	why    Refusal
	code   int
	header string // lines of its own
	advice string // the body
}

func (e *upgradeError) Error() string { return e.advice }

// response is the whole answer. The connection ends with it.
func (e *upgradeError) response() []byte {
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + strconv.Itoa(e.code) + " " + http.StatusText(e.code) + "\r\n")
	b.WriteString(e.header)
	b.WriteString("Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " + strconv.Itoa(len(e.advice)+1) + "\r\n\r\n")
	b.WriteString(e.advice + "\n")
	return []byte(b.String())
}

// The reasons. None of them tells what would be let in where that is a secret: an origin.
var (
	errNotHTTP = &upgradeError{
		RefusedUpgrade, http.StatusBadRequest, "",
		"This is MQTT over WebSocket: the connection must begin with an HTTP request. Use ws:// here, and wss:// only where TLS is on.",
	}
	errUpgradeSize = &upgradeError{
		RefusedUpgradeSize, http.StatusRequestHeaderFieldsTooLarge, "",
		"The request is larger than 8 KiB. Send fewer or smaller header fields, cookies for example.",
	}
	errHasty = &upgradeError{
		RefusedUpgrade, http.StatusBadRequest, "",
		"Nothing may be sent behind the request before it is answered (RFC 6455, 4.1).",
	}
	errMalformed = &upgradeError{RefusedUpgrade, http.StatusBadRequest, "", "This is not a well-formed HTTP/1.1 request."}
	errVersion   = &upgradeError{RefusedUpgrade, http.StatusHTTPVersionNotSupported, "", "Use HTTP/1.1."}
	errMethod    = &upgradeError{RefusedUpgrade, http.StatusMethodNotAllowed, "Allow: GET\r\n", "Use GET: MQTT over WebSocket begins with it."}
	errPlain     = &upgradeError{
		RefusedUpgrade, http.StatusUpgradeRequired, "Upgrade: websocket\r\n",
		"MQTT is served here over WebSocket: connect with an MQTT client and ws:// or wss://, or send Upgrade: websocket and Connection: Upgrade.",
	}
	errWebSocketVersion = &upgradeError{RefusedUpgrade, http.StatusUpgradeRequired, "Sec-WebSocket-Version: 13\r\n", "Use version 13 of WebSocket."}
	errKey              = &upgradeError{RefusedUpgrade, http.StatusBadRequest, "", "Sec-WebSocket-Key must be 16 bytes in base64."}
	errHost             = &upgradeError{RefusedUpgrade, http.StatusBadRequest, "", "The request needs the field Host."}
	errPath             = &upgradeError{
		RefusedPath, http.StatusNotFound, "",
		"MQTT is not served under this path. Connect to the one of this listener, websocket.path in its configuration: usually /mqtt.",
	}
	errOrigin = &upgradeError{
		RefusedOrigin, http.StatusForbidden, "",
		"Pages of this origin may not connect. Add it to websocket.origins of the listener if they should.",
	}
	errProtocol = &upgradeError{
		RefusedSubprotocol, http.StatusBadRequest, "",
		"The request must offer the sub-protocol mqtt: Sec-WebSocket-Protocol: mqtt (in a browser: new WebSocket(url, 'mqtt')).",
	}
)

// answer answers a complete request: with what makes it a WebSocket, or with why not.
func (o *WebSocketOptions) answer(request []byte) (answer []byte, why Refusal) {
	if bytes.Count(request, []byte("\n")) != bytes.Count(request, []byte("\r\n")) {
		return errMalformed.response(), errMalformed.why // where it ends would be a matter of taste
	}
	agreed := false
	upgrader := ws.Upgrader{
		OnRequest: func(uri []byte) error { return o.checkPath(string(uri)) },
		OnHeader: func(key, value []byte) error {
			if string(key) == "Origin" {
				return o.checkOrigin(string(value))
			}
			return nil
		},
		Protocol: func(offer []byte) bool {
			agreed = agreed || string(offer) == protocolMQTT || string(offer) == protocolMQTT3
			return agreed
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if !agreed {
				return nil, errProtocol
			}
			return nil, nil //nolint:nilnil // no further header, and no error
		},
	}
	var response bytes.Buffer
	_, err := upgrader.Upgrade(struct {
		io.Reader
		io.Writer
	}{bytes.NewReader(request), &response})
	if err == nil {
		return response.Bytes(), ""
	}
	refused := explainUpgrade(err)
	return refused.response(), refused.why
}

func (o *WebSocketOptions) checkPath(uri string) error {
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return errMalformed
	}
	if u.Path != o.Path {
		return errPath
	}
	return nil
}

func (o *WebSocketOptions) checkOrigin(origin string) error {
	if len(o.Origins) == 0 {
		return nil
	}
	for _, allowed := range o.Origins {
		if originFits(strings.ToLower(allowed), strings.ToLower(origin)) {
			return nil
		}
	}
	return errOrigin
}

// originFits tells whether an origin is the allowed one, or of those that it stands for.
func originFits(allowed, origin string) bool {
	before, after, several := strings.Cut(allowed, "*")
	if !several {
		return allowed == origin
	}
	return len(origin) >= len(before)+len(after) && strings.HasPrefix(origin, before) && strings.HasSuffix(origin, after) &&
		!strings.Contains(origin[len(before):], "/")
}

// explainUpgrade says what an error of ws.Upgrader means to the client.
func explainUpgrade(err error) *upgradeError {
	refused, ours := errors.AsType[*upgradeError](err)
	switch {
	case ours:
		return refused
	case errors.Is(err, ws.ErrHandshakeBadProtocol):
		return errVersion
	case errors.Is(err, ws.ErrHandshakeBadMethod):
		return errMethod
	case errors.Is(err, ws.ErrHandshakeBadUpgrade), errors.Is(err, ws.ErrHandshakeBadConnection):
		return errPlain
	case errors.Is(err, ws.ErrHandshakeUpgradeRequired), errors.Is(err, ws.ErrHandshakeBadSecVersion):
		return errWebSocketVersion
	case errors.Is(err, ws.ErrHandshakeBadSecKey):
		return errKey
	case errors.Is(err, ws.ErrHandshakeBadHost):
		return errHost
	}
	return errMalformed
}
