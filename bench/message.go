package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// messageTopic is as short as a topic gets that has a level; with 64 bytes of payload a message has 71 bytes.
const messageTopic = "a/b"

// stampLen is how much of a payload a message uses for itself: when it was sent, or ought to have been, and by whom.
const stampLen = 16

var errOtherEcho = errors.New("the echo is not what was sent")

// A message is a PUBLISH that carries its time and its sender, and so needs no bookkeeping until it comes back.
type message struct {
	bytes  []byte
	offset int // of the payload
}

func newMessage(level byte, payload int) message {
	packet, offset := publishPacket(level, messageTopic, payload)
	return message{bytes: packet, offset: offset}
}

// stamp makes ready the message that sender sends at the given time.
func (m message) stamp(at time.Duration, sender int) {
	binary.LittleEndian.PutUint64(m.bytes[m.offset:], uint64(at))
	binary.LittleEndian.PutUint64(m.bytes[m.offset+8:], uint64(sender))
}

// sentAt is when the echo was sent, provided that it is one of sender's.
func (m message) sentAt(echo []byte, sender int) (time.Duration, error) {
	if !bytes.Equal(echo[:m.offset], m.bytes[:m.offset]) ||
		binary.LittleEndian.Uint64(echo[m.offset+8:]) != uint64(sender) {
		return 0, errOtherEcho
	}
	return time.Duration(binary.LittleEndian.Uint64(echo[m.offset:])), nil
}

// A splitter cuts the bytes of many connections into frames of one length.
type splitter struct {
	length  int
	partial []byte // one frame for each connection
	have    []int
}

func newSplitter(connections, length int) *splitter {
	return &splitter{length: length, partial: make([]byte, connections*length), have: make([]int, connections)}
}

// next returns the first frame that in completes, and what is left of in; no frame when there is none. The frame is
// valid until the next call.
func (s *splitter) next(connection int, in []byte) (frame, rest []byte) {
	have := s.have[connection]
	if have == 0 && len(in) >= s.length {
		return in[:s.length], in[s.length:]
	}
	partial := s.partial[connection*s.length : (connection+1)*s.length]
	n := copy(partial[have:], in)
	if have+n < s.length {
		s.have[connection] = have + n
		return nil, nil
	}
	s.have[connection] = 0
	return partial, in[n:]
}
