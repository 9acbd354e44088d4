package proxy

import "github.com/mqttlb/mqttlb/mqttparse"

// redirect answers the client that its backend is another server, which it can reach by itself (MQTT 5.0, 4.11), and
// ends the session. It reports false, and nothing has happened, if the client cannot be told that: then it is relayed.
//
// The code is 0x9C, which is for this time: the next time, the client is to ask here again, as its backend may be another
// one by then. That the client has not authenticated yet, plainly or with AUTH packets, does not matter: a server may
// send it away at any point.
func (l *loop) redirect(s *session) bool {
	if s.version != 5 {
		return false
	}
	answer := mqttparse.AppendRedirect(l.scratch[:0], s.target.Backend.Advertised, s.maxPacket)
	if len(answer) == 0 {
		return false
	}
	l.say(s, answer)
	l.finish(s, EndRedirected)
	return true
}
