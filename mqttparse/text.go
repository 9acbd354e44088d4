package mqttparse

import (
	"bytes"
	"unicode/utf8"
)

// checkString looks for what no UTF-8 encoded string may hold (MQTT 5.0, 1.5.4; 3.1.1, 1.5.3).
func checkString(s []byte) (n Nonconforming) {
	if !utf8.Valid(s) { // [MQTT-1.5.3-1], [MQTT-1.5.4-1], surrogates included
		n |= InvalidUTF8
	}
	if bytes.IndexByte(s, 0) >= 0 { // [MQTT-1.5.3-2], [MQTT-1.5.4-2]
		n |= NulCharacter
	}
	return n
}

// checkTopic looks for what no topic name may hold.
func checkTopic(s []byte) Nonconforming {
	n := checkString(s)
	if len(s) == 0 || bytes.IndexByte(s, '#') >= 0 || bytes.IndexByte(s, '+') >= 0 { // [MQTT-4.7.3-1]; [MQTT-4.7.1-1], [MQTT-4.7.0-1]
		n |= BadWillTopic
	}
	return n
}

// checkControls looks for the characters that a string SHOULD NOT hold: U+0001 to U+001F, U+007F to
// U+009F and the Unicode non-characters. Bytes that are not UTF-8 and U+0000 have names of their own.
func checkControls(s []byte) Nonconforming {
	for i := 0; i < len(s); {
		if b := s[i]; b < utf8.RuneSelf {
			if b < ' ' && b != 0 || b == 0x7f {
				return IDControlChars
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r <= 0x9f || r&0xfffe == 0xfffe || 0xfdd0 <= r && r <= 0xfdef {
			return IDControlChars
		}
		i += size
	}
	return 0
}

// characters counts the characters of s, leaving out the bytes that continue one. utf8.RuneCount of Go
// 1.26 allocates when s is not ASCII.
func characters(s []byte) (n int) {
	for _, b := range s {
		if b&0xc0 != 0x80 {
			n++
		}
	}
	return n
}
