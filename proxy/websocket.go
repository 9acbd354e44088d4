package proxy

import (
	"bytes"

	"github.com/gobwas/ws"
)

// MQTT over WebSocket (RFC 6455, MQTT 5 section 6): the client's HTTP request is answered in upgrade.go, what comes in
// frames afterwards is read by frames in websocketframes.go, and here both become a layer of the client's leg.

// maxUpgrade bounds the HTTP request in bytes.
const maxUpgrade = 8 << 10

// beginUpgrade begins the client's entryUpgrade; nextEntry must be called when it is over.
func (l *loop) beginUpgrade(*session) {}

// readUpgrade collects the client's HTTP request and answers it. Nothing is answered before it is complete, but to
// those who can only be wrong.
func (l *loop) readUpgrade(s *session) {
	for reads := 0; s.client.has(readable); reads++ {
		if reads == earlyReads {
			l.postpone(s)
			return
		}
		chunk, request, ok := l.readMore(s)
		if !ok {
			return
		}
		if len(chunk) > 0 {
			answer, why, complete := s.listener.WebSocket.consider(request)
			switch {
			case why != "":
				l.write(s, &s.client, answer)
				l.endLayer(s, &s.client)
				l.hearOut(s, EndProtocol, why)
				return
			case complete:
				l.upgrade(s, answer)
				return
			case s.backend.out == nil && !l.hold(s, chunk):
				return
			}
		}
		if s.client.has(ended | broken) {
			l.leaveEarly(s)
			return
		}
	}
}

// consider answers what has come of a request so far, if it can be answered: it is complete, or why says what is wrong.
func (o *WebSocketOptions) consider(request []byte) (answer []byte, why Refusal, complete bool) {
	end := bytes.Index(request, []byte("\r\n\r\n"))
	switch {
	case len(request) > 0 && (request[0] < 'A' || request[0] > 'Z'):
		return errNotHTTP.response(), errNotHTTP.why, false
	case end < 0 && len(request) < maxUpgrade:
		return nil, "", false
	case end < 0 || end+4 > maxUpgrade:
		return errUpgradeSize.response(), errUpgradeSize.why, false
	case end+4 < len(request): // the client must wait for the answer: RFC 6455, 4.1
		return errHasty.response(), errHasty.why, false
	}
	answer, why = o.answer(request)
	return answer, why, why == ""
}

// upgrade makes the client's stream one of frames.
func (l *loop) upgrade(s *session, answer []byte) {
	l.unhold(s)
	l.write(s, &s.client, answer)
	s.client.layer = &webSocket{below: s.client.layer}
	s.client.bytes = 0 // it is those of MQTT that count
	l.nextEntry(s)
}

// A webSocket is the layer of a client that speaks MQTT over WebSocket. It holds nothing but the state of the frame
// that is being read.
type webSocket struct {
	below  layer // TLS; nil if the frames go to the socket
	frames frames
	pongs  uint16 // bytes of pongs since the client has last taken everything
	failed bool   // what it sends is no WebSocket, or not what MQTT may be sent in
	closed bool   // we have sent Close, or must not any more: nothing may follow
}

// maxPongs bounds the pongs in bytes that wait for a client which does not read, and those before its CONNECT.
const maxPongs = 1 << 10

// take reads what MQTT there is in the next bytes. What the frames tell beside that is handled at once.
func (w *webSocket) take(l *loop, s *session, g *leg, room []byte) []byte {
	raw := l.takeBelow(w.below, s, g, room)
	if len(raw) == 0 || w.failed || w.frames.closed {
		return nil // behind the end of the stream nothing counts
	}
	data, err := w.frames.decode(raw)
	if err != nil {
		w.fail(l, s, g, room)
		return nil
	}
	if ping, ok := w.frames.takePing(); ok {
		w.pong(l, s, g, ping)
	}
	if w.frames.closed {
		w.answerClose(l, s, g)
	}
	return data
}

// pong answers the last ping that has come, as RFC 6455, 5.5.3 allows.
func (w *webSocket) pong(l *loop, s *session, g *leg, payload []byte) {
	if w.closed {
		return
	}
	if g.out == nil && s.state != stateReading {
		w.pongs = 0
	}
	if w.pongs += uint16(len(payload) + 2); w.pongs > maxPongs {
		w.pongs = maxPongs
		return
	}
	w.send(l, s, g, ws.OpPong, payload)
}

// answerClose ends the stream after the client's Close: with a Close that repeats its status, and FIN. This is the
// client's FIN, whether or not it sends one: it hears nothing any more.
func (w *webSocket) answerClose(l *loop, s *session, g *leg) {
	if !w.closed {
		w.close(l, s, g, w.frames.status)
	}
	if !g.has(farewell) {
		g.set(farewell)
		l.byeBelow(w.below, s, g)
	}
	if g.out == nil {
		finishWriting(g)
	}
	g.set(ended)
}

// fail ends a session whose client breaks the rules. What it still sends is read, because closing a socket with unread
// bytes would reset the connection, and with it the Close that says what is wrong.
func (w *webSocket) fail(l *loop, s *session, g *leg, room []byte) {
	w.failed = true
	for moved := 0; g.has(readable) && !g.has(ended|broken) && moved < turn; {
		raw := l.takeBelow(w.below, s, g, room)
		moved += len(raw) + 1
	}
	if !s.leaving() {
		s.refusal = RefusedFrame
		if s.end == EndNone {
			s.end = EndProtocol
		}
	}
	g.clear(readable)
	g.set(ended)
}

// give sends a chunk in one frame.
func (w *webSocket) give(l *loop, s *session, g *leg, chunk []byte) {
	if len(chunk) > 0 && !w.closed {
		w.send(l, s, g, ws.OpBinary, chunk)
	}
}

// bye sends Close, unless it has been sent.
func (w *webSocket) bye(l *loop, s *session, g *leg) {
	if !w.closed {
		w.close(l, s, g, w.status(s))
	}
	l.byeBelow(w.below, s, g)
}

// release gives back what lies below.
func (w *webSocket) release(l *loop) {
	if w.below != nil {
		w.below.release(l)
	}
}

// status is what Close says of how the session ends.
func (w *webSocket) status(s *session) ws.StatusCode {
	switch {
	case w.failed:
		return w.frames.status
	case s.end == EndEvicted || s.end == EndShutdown:
		return ws.StatusGoingAway
	case s.refusal == RefusedPacketSize || s.refusal == RefusedConnectSize:
		return ws.StatusMessageTooBig
	case s.end == EndDial || s.refusal == RefusedFirstByte:
		return statusTryAgainLater
	case s.refusal != "":
		return ws.StatusPolicyViolation
	}
	return ws.StatusNormalClosure
}

// statusTryAgainLater is in IANA's registry of status codes, but not in RFC 6455.
const statusTryAgainLater ws.StatusCode = 1013

// close sends Close, and no status if it is 0.
func (w *webSocket) close(l *loop, s *session, g *leg, status ws.StatusCode) {
	payload := [2]byte{byte(status >> 8), byte(status)}
	n := len(payload)
	if status == 0 {
		n = 0
	}
	w.send(l, s, g, ws.OpClose, payload[:n])
	w.closed = true
}

// send puts a frame together in the loop's buffer for that, so that one write carries it.
func (w *webSocket) send(l *loop, s *session, g *leg, op ws.OpCode, payload []byte) {
	l.frame = append(appendFrameHeader(l.frame[:0], op, len(payload)), payload...)
	l.giveBelow(w.below, s, g, l.frame)
}
