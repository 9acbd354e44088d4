//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
)

// A stream is bytes without a pattern that can be made again from its number: what arrives is compared
// with what was sent, to the last byte, without keeping either.
type stream struct {
	number byte
	size   int // 0 means endless
	// chunk is the most that one write or read takes; sizes vary up to it. 0 means 64 KiB each time.
	chunk int
}

const largestChunk = 64 << 10

// sizes returns the size of one chunk after the other.
func (s stream) sizes() func() int {
	if s.chunk == 0 {
		return func() int { return largestChunk }
	}
	r := rand.New(rand.NewPCG(uint64(s.number), uint64(s.chunk)))
	return func() int { return 1 + r.IntN(min(s.chunk, largestChunk)) }
}

func (s stream) source() io.Reader { return rand.NewChaCha8([32]byte{s.number}) }

// A tap counts what a stream has sent, and can stop it.
type tap struct {
	sent   atomic.Int64
	closed atomic.Bool
}

// send writes the stream, to its end or until the tap is closed.
func (s stream) send(w io.Writer, through *tap) error {
	source, size := s.source(), s.sizes()
	buffer := make([]byte, largestChunk)
	for at := 0; (s.size == 0 || at < s.size) && !through.closed.Load(); {
		chunk := buffer[:size()]
		if s.size > 0 {
			chunk = chunk[:min(len(chunk), s.size-at)]
		}
		if _, err := io.ReadFull(source, chunk); err != nil {
			return err
		}
		n, err := w.Write(chunk)
		at += n
		through.sent.Add(int64(n))
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
	return nil
}

// check reads the stream, to its end or to the end of r, and compares every byte. It returns how many
// there were.
func (s stream) check(r io.Reader) (int, error) {
	source, size := s.source(), s.sizes()
	got, want := make([]byte, largestChunk), make([]byte, largestChunk)
	at := 0
	for s.size == 0 || at < s.size {
		chunk := got[:size()]
		if s.size > 0 {
			chunk = chunk[:min(len(chunk), s.size-at)]
		}
		n, err := r.Read(chunk)
		if _, err := io.ReadFull(source, want[:n]); err != nil {
			return at, err
		}
		if !bytes.Equal(got[:n], want[:n]) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			return at, fmt.Errorf("byte %d is %#02x, want %#02x", at+i, got[i], want[i])
		}
		at += n
		if errors.Is(err, io.EOF) && s.size == 0 {
			return at, nil
		}
		if err != nil && at != s.size {
			return at, fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
	return at, nil
}
