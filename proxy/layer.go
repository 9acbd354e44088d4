package proxy

// A layer is what lies between a leg's socket and its MQTT: TLS, WebSocket, or WebSocket on TLS. A plain leg has none
// and pays no more than the look at a nil.
//
// A layer belongs to one leg and, like it, to the loop. What the layer on top answers is the truth about the leg: its
// flags readable, ended and broken speak of MQTT bytes, so a layer that has bytes left inside leaves readable set, and
// ended only once they have been taken.
type layer interface {
	// take reads decoded bytes into room (at most len(room)) and returns them; empty means the same as in loop.read:
	// nothing now or never again, the leg's flags tell (readable, ended, broken).
	take(l *loop, s *session, g *leg, room []byte) []byte
	// give encodes chunk and sends it; what the socket refuses waits in g.out, already encoded. It never refuses.
	give(l *loop, s *session, g *leg, chunk []byte)
	// bye sends what ends the stream in order (TLS close_notify, WebSocket Close); FIN follows from the caller.
	bye(l *loop, s *session, g *leg)
	// release gives memory back; the leg is dead afterwards.
	release(l *loop)
}

// takeBelow is how a layer reads from what it stands on: another layer, or the socket if below is nil.
func (l *loop) takeBelow(below layer, s *session, g *leg, room []byte) []byte {
	if below != nil {
		return below.take(l, s, g, room)
	}
	return l.recvRaw(g, room)
}

// giveBelow is how a layer writes to what it stands on.
func (l *loop) giveBelow(below layer, s *session, g *leg, chunk []byte) {
	if below != nil {
		below.give(l, s, g, chunk)
		return
	}
	l.sendRaw(s, g, chunk)
}

// byeBelow has what a layer stands on end the stream as well.
func (l *loop) byeBelow(below layer, s *session, g *leg) {
	if below != nil {
		below.bye(l, s, g)
	}
}

// endLayer says what ends the stream on the leg in order, once. It reports whether nothing waits to be sent any more,
// so that FIN may follow.
func (l *loop) endLayer(s *session, g *leg) bool {
	if g.layer != nil && !g.has(farewell|deaf|broken) {
		g.set(farewell)
		g.layer.bye(l, s, g)
	}
	return g.out == nil
}

// dropLayer gives back what the leg's layer holds.
func (l *loop) dropLayer(g *leg) {
	if g.layer != nil {
		g.layer.release(l)
		g.layer = nil
	}
}
