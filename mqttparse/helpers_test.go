package mqttparse_test

// appendHeader appends a fixed header, written out here so that the tests do not rely on the code under
// test.
func appendHeader(dst []byte, first byte, remaining int) []byte {
	dst = append(dst, first)
	for ; remaining >= 128; remaining /= 128 {
		dst = append(dst, byte(remaining%128+128))
	}
	return append(dst, byte(remaining))
}
