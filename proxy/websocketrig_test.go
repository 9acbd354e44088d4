package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// upgradeRequest is what MQTT.js sends in node, with these fields in place of its own; an empty one is left out.
func upgradeRequest(line string, changed map[string]string) []byte {
	fields := map[string]string{
		"Host": "lb.example", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "mqtt",
		"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
	}
	maps.Copy(fields, changed)
	b := line + " HTTP/1.1\r\n"
	for key, value := range fields {
		if value != "" {
			b += key + ": " + value + "\r\n"
		}
	}
	return []byte(b + "\r\n")
}

func webSocketRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	o.listener.WebSocket = &WebSocketOptions{Path: "/mqtt"}
	return newRig(t, o)
}

// A webSocketClient is a client behind its upgrade. It reads what comes frame by frame.
type webSocketClient struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

// upgraded connects a client whose request has been accepted.
func (r *rig) upgraded() *webSocketClient {
	r.t.Helper()
	return r.upgrade(r.dial())
}

// upgrade makes a WebSocket of a connection.
func (r *rig) upgrade(conn net.Conn) *webSocketClient {
	r.t.Helper()
	c := &webSocketClient{Conn: conn, t: r.t, in: bufio.NewReader(conn)}
	write(r.t, c, upgradeRequest("GET /mqtt", nil))
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Protocol") != "mqtt" ||
		answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || answer.Header.Get("Sec-WebSocket-Extensions") != "" {
		r.t.Fatalf("got status %s and %v, want 101 with the sub-protocol mqtt, the accept key of RFC 6455, and no extension", answer.Status, answer.Header)
	}
	return c
}

// webSocketSession is session over WebSocket.
func (r *rig) webSocketSession() (client *webSocketClient, broker *net.TCPConn) {
	r.t.Helper()
	client = r.upgraded()
	client.send(ws.OpBinary, string(connect("c")))
	broker = r.accept(0)
	expect(r.t, broker, connect("c"))
	write(r.t, broker, connack())
	client.expect(connack())
	return client, broker
}

// send sends a frame.
func (c *webSocketClient) send(op ws.OpCode, payload string) {
	c.t.Helper()
	write(c.t, c, frame(op, true, payload))
}

// next reads the next frame.
func (c *webSocketClient) next() (ws.Frame, error) {
	h, err := ws.ReadHeader(c.in)
	if err != nil {
		return ws.Frame{}, err
	}
	if err := ws.CheckHeader(h, ws.StateClientSide); err != nil || h.Length > readSize {
		return ws.Frame{}, fmt.Errorf("frame %+v: %w", h, err)
	}
	f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
	_, err = io.ReadFull(c.in, f.Payload)
	return f, err
}

// expect reads binary frames that carry exactly these bytes.
func (c *webSocketClient) expect(want []byte) {
	c.t.Helper()
	for got := 0; got < len(want); {
		f, err := c.next()
		if err != nil || f.Header.OpCode != ws.OpBinary || !bytes.HasPrefix(want[got:], f.Payload) {
			c.t.Fatalf("after %d bytes got frame %+v and %v, want the next of %d bytes", got, f.Header, err, len(want))
		}
		got += len(f.Payload)
	}
}

// expectFrame reads one frame.
func (c *webSocketClient) expectFrame(op ws.OpCode, payload string) {
	c.t.Helper()
	f, err := c.next()
	if err != nil || f.Header.OpCode != op || string(f.Payload) != payload {
		c.t.Fatalf("got frame %+v with %.100q and %v, want opcode %v with %q", f.Header, f.Payload, err, op, payload)
	}
}

// expectClose reads Close with this status, and FIN behind it.
func (c *webSocketClient) expectClose(status ws.StatusCode) {
	c.t.Helper()
	f, err := c.next()
	if err != nil || f.Header.OpCode != ws.OpClose {
		c.t.Fatalf("got frame %+v with %.100q and %v, want Close", f.Header, f.Payload, err)
	}
	if got, _ := ws.ParseCloseFrameData(f.Payload); got != status {
		c.t.Errorf("got Close with status %d, want %d", got, status)
	}
	if f, err := c.next(); !errors.Is(err, io.EOF) {
		c.t.Errorf("got frame %+v and %v behind Close, want FIN", f.Header, err)
	}
}

// refusalOf reads an answer that ends the connection.
func refusalOf(t *testing.T, c net.Conn) (status int, header http.Header, advice string) {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil || !answer.Close || answer.ContentLength != int64(len(body)) {
		t.Errorf("got %v, close %v and length %d of %d bytes; want an answer that says that it is the last, and how long it is",
			err, answer.Close, answer.ContentLength, len(body))
	}
	return answer.StatusCode, answer.Header, strings.TrimSpace(string(body))
}
