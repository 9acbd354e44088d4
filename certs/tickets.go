package certs

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

const (
	// The length of a key in the file. nginx and HAProxy use 48 and 80 bytes; what is made of them here has 32.
	minTicketKey, maxTicketKey = 32, 80
	// maxTicketKeys bounds how many keys are tried for a ticket. Three generations are usual (protocol.md, 8).
	maxTicketKeys = 8
	ticketUse     = "mqttlb session tickets 1"
)

// parseTicketKeys reads the lines of a file of keys. Empty lines and those that begin with # do not count.
func parseTicketKeys(text []byte) ([][]byte, error) {
	var keys [][]byte
	n := 0
	for line := range bytes.Lines(text) {
		n++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		key := make([]byte, base64.StdEncoding.DecodedLen(len(line)))
		size, err := base64.StdEncoding.Strict().Decode(key, line)
		if err != nil || size < minTicketKey || size > maxTicketKey {
			return nil, fmt.Errorf("whose line %d is not %d to %d bytes in base64; make a key with: openssl rand -base64 48", n, minTicketKey, maxTicketKey)
		}
		key = key[:size]
		if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			return nil, fmt.Errorf("whose line %d repeats a key", n)
		}
		if keys = append(keys, key); len(keys) > maxTicketKeys {
			return nil, fmt.Errorf("which has more than %d keys; three are enough", maxTicketKeys)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("in which there is no key; make one with: openssl rand -base64 48")
	}
	return keys, nil
}

// ticketKeys makes keys for crypto/tls of those in a file. They depend on whom the listener trusts: a session of a
// client must not be resumed where its certificate would not be accepted.
func ticketKeys(keys [][]byte, trust [sha256.Size]byte) ([][32]byte, error) {
	made := make([][32]byte, len(keys))
	for i, key := range keys {
		k, err := hkdf.Key(sha256.New, key, trust[:], ticketUse, 32)
		if err != nil {
			return nil, err
		}
		made[i] = [32]byte(k)
	}
	return made, nil
}

// trustOf identifies which clients are let in: by which authorities, whatever their order, and whether a certificate is
// required at all.
func trustOf(auth ClientAuth, authorities []*x509.Certificate) [sha256.Size]byte {
	sums := make([][]byte, len(authorities))
	for i, c := range authorities {
		sum := sha256.Sum256(c.Raw)
		sums[i] = sum[:]
	}
	slices.SortFunc(sums, bytes.Compare)
	sums = slices.CompactFunc(sums, bytes.Equal)
	return sha256.Sum256(append([]byte{byte(auth)}, bytes.Join(sums, nil)...))
}
