package proxy

import (
	"testing"

	"github.com/gobwas/ws"
)

// What a layer has told the client before CONNECT, and the client has not taken, is neither mistaken for the broker's
// answer nor lost when that is held back.
func TestWhatWaitsForTheClientIsNoAnswer(t *testing.T) {
	t.Parallel()
	waiting := "behind 101"
	for _, c := range []struct {
		name  string
		stuck bool // the client takes nothing until the broker has answered
		want  []byte
	}{
		{"taken in time", false, connack()},
		{"taken late", true, connackOf(4, 3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := webSocketRig(t, rigOptions{brokers: 2})
			client := r.upgraded()
			l := r.proxy.loops[0]
			var held *session
			r.proxy.on(l, func(l *loop) {
				held = l.sessions.at(0)
				held.client.out = l.pool.add(nil, append(appendFrameHeader(nil, ws.OpPong, len(waiting)), waiting...))
				if c.stuck {
					held.client.clear(writable)
				}
			})
			client.send(ws.OpBinary, string(connect("c")))
			r.decline(0, connect("c"), connackOf(4, 3))
			if c.stuck {
				eventually(t, func() (answered bool) {
					r.proxy.on(l, func(l *loop) { answered = held.answered || held.backend.has(readable) })
					return answered
				})
				r.proxy.on(l, func(l *loop) { l.watchWrites(held, &held.client) })
			} else {
				broker := r.accept(1)
				expect(t, broker, connect("c"))
				write(t, broker, connack())
			}
			client.expectFrame(ws.OpPong, waiting)
			client.expect(c.want)
		})
	}
}
