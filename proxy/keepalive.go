package proxy

import (
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// usualSlack is what a client gets beyond one and a half times its keep alive (protocol.md, 6): the broker is to find
// out first, and what is on the way is not late yet.
const usualSlack = 10 * time.Second

// silentLooks is how many looks in a row must find a client silent; together they take the time that it may be
// silent. One look costs less than the note of each packet's time would.
const silentLooks = 4

// noteKeepAlive begins to watch a client that the broker has accepted; chunk ends the broker's CONNACK. An MQTT 5
// broker may set another keep alive than the client has asked for [MQTT-3.1.2-21]. The longer one counts here, and
// if it cannot be told whether there is another one, none does.
func (l *loop) noteKeepAlive(s *session, chunk []byte) {
	if s.keepAlive > 0 && s.version == 5 {
		given, ok := mqttparse.ServerKeepAlive(chunk, s.keepAlive)
		if !ok || given == 0 {
			s.keepAlive = 0
		}
		s.keepAlive = max(s.keepAlive, given)
	}
	if s.accepts() {
		l.watchSilence(s)
	}
}

// watchSilence starts the clock that looks whether the client is silent.
func (l *loop) watchSilence(s *session) {
	if s.keepAlive == 0 || s.state != stateRelaying || s.eviction != nil {
		return
	}
	s.client.clear(spoke)
	s.silent = 0
	l.lookAgain(s)
}

func (l *loop) lookAgain(s *session) {
	allowed := time.Duration(s.keepAlive)*time.Second*3/2 + l.proxy.silenceSlack
	l.timers.set(s, l.now, allowed/silentLooks)
}

// checkSilence is one look. A client is not silent while nobody listens to it, because the broker takes nothing.
func (l *loop) checkSilence(s *session) {
	if s.client.has(spoke|readable) || s.backend.out != nil {
		l.watchSilence(s)
		return
	}
	if s.silent++; s.silent >= silentLooks {
		l.refuse(s, EndTimeout, RefusedKeepAlive)
		return
	}
	l.lookAgain(s)
}
