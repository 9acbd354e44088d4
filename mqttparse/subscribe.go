package mqttparse

import "slices"

// A request is a SUBSCRIBE or UNSUBSCRIBE that is passing, as far as it has been read: a packet identifier, in MQTT 5
// properties, and topic filters, in SUBSCRIBE with an option byte behind each (MQTT 5.0, 3.8 and 3.10).
type request struct {
	hash    uint64
	left    uint32 // bytes to come of the properties or of the topic filter
	at      uint32 // position of the topic filter
	id      uint16
	step    requestStep
	digits  uint8 // of the length of the properties
	matched uint8 // bytes of sharePrefix
	named   uint8 // bytes of name
	passing bool
	end     bool // UNSUBSCRIBE
	name    [MaxShareName]byte
}

const sharePrefix = "$share/"

// A requestStep is what comes next.
type requestStep uint8

const (
	stepID       requestStep = iota
	stepID2                  // the second byte
	stepPropSize             // how many bytes of properties there are
	stepProps                //
	stepSize                 // how long the topic filter is
	stepSize2                //
	stepPrefix               // what may be sharePrefix
	stepName                 // the name of the group
	stepRest                 // what is behind the group
	stepOther                // a topic filter that is not shared
	stepOptions              //
	stepLost                 // the packet is malformed
)

// read takes the next part of the body of a request.
func (s *Subscriptions) read(part []byte) {
	r := &s.request
	for len(part) > 0 {
		switch r.step {
		case stepProps, stepOther, stepLost: // nothing to see
			k := len(part)
			if r.step != stepLost {
				k = min(k, int(r.left))
				r.left -= uint32(k)
			}
			part = part[k:]
			if r.left == 0 && r.step != stepLost {
				r.passed()
			}
			continue
		case stepPrefix, stepName, stepRest:
			s.readFilter(part[0])
		case stepID, stepID2, stepPropSize, stepSize, stepSize2, stepOptions:
			s.readField(part[0])
		}
		part = part[1:]
	}
}

// readField takes a byte of what is around the topic filters.
func (s *Subscriptions) readField(b byte) {
	r := &s.request
	switch r.step {
	case stepID:
		r.id = uint16(b) << 8
		r.step = stepID2
	case stepID2:
		r.id |= uint16(b)
		s.disregard(r.id) // whoever uses it anew does not wait for the answer any more
		r.step = stepSize
		if s.version >= 5 {
			r.step = stepPropSize
		}
	case stepPropSize:
		r.left |= uint32(b&0x7f) << (7 * r.digits)
		r.digits++
		switch {
		case b < 0x80 && r.left == 0:
			r.step = stepSize
		case b < 0x80:
			r.step = stepProps
		case r.digits == maxLengthBytes:
			r.step = stepLost
		}
	case stepSize:
		r.left = uint32(b) << 8
		r.step = stepSize2
	case stepSize2:
		r.left |= uint32(b)
		r.step, r.matched, r.named, r.hash = stepPrefix, 0, 0, fnvOffset
		if r.left == 0 {
			r.passed()
		}
	case stepOptions:
		r.at++
		r.step = stepSize
	case stepProps, stepPrefix, stepName, stepRest, stepOther, stepLost:
	}
}

// readFilter takes a byte of a topic filter that may be shared.
func (s *Subscriptions) readFilter(b byte) {
	r := &s.request
	r.left--
	switch r.step {
	case stepPrefix:
		if b != sharePrefix[r.matched] {
			r.step = stepOther
		} else if r.matched++; int(r.matched) == len(sharePrefix) {
			r.step = stepName
		}
	case stepName:
		switch {
		case b == '/' && r.named > 0 && r.left > 0: // the filter must not be empty [MQTT-4.8.2-2]
			r.step = stepRest
		case b == '/' || b == '+' || b == '#' || r.named == MaxShareName:
			r.step = stepOther
		default:
			r.name[r.named] = b
			r.named++
		}
	case stepRest:
		r.hash = (r.hash ^ uint64(b)) * fnvPrime
	case stepID, stepID2, stepPropSize, stepProps, stepSize, stepSize2, stepOther, stepOptions, stepLost:
		// not in a filter that may be shared
	}
	if r.left > 0 {
		return
	}
	if r.step == stepRest {
		s.await(r)
	}
	r.passed()
}

// FNV-1a, because it takes bytes one at a time. Whoever makes two filters collide deceives only itself.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// passed goes on behind the properties or a topic filter.
func (r *request) passed() {
	switch {
	case r.step == stepProps:
		r.step = stepSize
	case r.end:
		r.at++
		r.step = stepSize
	default:
		r.step = stepOptions
	}
}

// An answer is a SUBACK, UNSUBACK or CONNACK that is passing: a packet identifier, in MQTT 5 properties, and a code for
// each topic filter (MQTT 5.0, 3.9 and 3.11). UNSUBACK has no codes before MQTT 5.
type answer struct {
	left    uint32 // bytes to come of the properties
	at      uint32 // position of the next code
	id      uint16
	step    answerStep
	digits  uint8 // of the length of the properties
	typ     PacketType
	passing bool
}

// An answerStep is what comes next.
type answerStep uint8

const (
	answerID answerStep = iota
	answerID2
	answerPropSize
	answerProps
	answerCodes
	answerLost // the packet is malformed, or there is nothing more to learn from it
)

// hear takes the next part of the body of an answer.
func (s *Subscriptions) hear(part []byte) {
	a := &s.answer
	for len(part) > 0 && a.step != answerLost {
		if a.step == answerProps {
			k := min(len(part), int(a.left))
			if a.left -= uint32(k); a.left == 0 {
				a.step = answerCodes
			}
			part = part[k:]
			continue
		}
		s.hearField(part[0])
		part = part[1:]
	}
}

func (s *Subscriptions) hearField(b byte) {
	a := &s.answer
	switch a.step {
	case answerID:
		a.id = uint16(b) << 8
		a.step = answerID2
		if a.typ == TypeConnack { // the first byte tells whether there was a session (MQTT 5.0, 3.2.2.1.1)
			if b&1 == 0 {
				s.resumed = "" // not a change yet: the client will most likely subscribe again
			}
			a.step = answerLost
		}
	case answerID2:
		a.id |= uint16(b)
		a.step = answerCodes
		if s.version >= 5 {
			a.step = answerPropSize
		}
	case answerPropSize:
		a.left |= uint32(b&0x7f) << (7 * a.digits)
		a.digits++
		switch {
		case b < 0x80 && a.left == 0:
			a.step = answerCodes
		case b < 0x80:
			a.step = answerProps
		case a.digits == maxLengthBytes:
			a.step = answerLost
		}
	case answerCodes:
		if i := slices.IndexFunc(s.awaiting, func(w awaited) bool { return w.id == a.id && w.at == a.at }); i >= 0 {
			s.awaiting[i].agreed = b < 0x80
		}
		a.at++
	case answerProps, answerLost:
	}
}

// heard ends an answer. It reports whether the groups have changed.
func (s *Subscriptions) heard() (changed bool) {
	a := &s.answer
	if a.typ == TypeConnack || a.step < answerPropSize {
		return false
	}
	// UNSUBSCRIBE always works before MQTT 5, and nobody says so (MQTT 3.1.1, 3.11).
	silent := a.typ == TypeUnsuback && s.version < 5
	for _, w := range s.awaiting {
		if w.id == a.id && w.end == (a.typ == TypeUnsuback) && (w.agreed || silent) {
			changed = s.settle(w) || changed
		}
	}
	s.disregard(a.id)
	return changed
}
