package discovery

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// What HiveMQ's discovery extensions for S3 and Azure write about a node (hivemq.md, 4.2 and 4.3): standard
// Base64 with padding and without line breaks, of
//
//	4||||<creation time in ms>||||<cluster id>||||<host>||||<port of the cluster transport>
const (
	nodeVersion   = "4"
	nodeSeparator = "||||"
	nodeFields    = 5
	// maxNode bounds an object, in bytes: Base64 of two names of 253 bytes and two numbers have 750.
	maxNode = 4096
)

// A node is what HiveMQ has written about one of its brokers.
type node struct {
	created   time.Time
	clusterID string
	host      string // as the cluster transport is reached
	port      int    // of the cluster transport; clients do not go there
	key       string // of the object
}

// parseNode reads the content of an object. It accepts what HiveMQ accepts, except that HiveMQ does without
// the padding and does not mind separators at the end, neither of which it writes.
func parseNode(content []byte) (node, error) {
	if len(content) == 0 {
		return node{}, errors.New("the object is empty")
	}
	if strings.ContainsAny(string(content), "\r\n") { // the decoder would skip them, HiveMQ does not
		return node{}, errors.New("not Base64: it contains a line break")
	}
	text, err := base64.StdEncoding.DecodeString(string(content))
	if err != nil {
		return node{}, fmt.Errorf("not Base64: %w", err)
	}
	if !utf8.Valid(text) {
		return node{}, errors.New("not UTF-8")
	}
	fields := strings.Split(string(text), nodeSeparator)
	if len(fields) != nodeFields {
		return node{}, fmt.Errorf("%d fields instead of %d", len(fields), nodeFields)
	}
	if fields[0] != nodeVersion {
		return node{}, fmt.Errorf("version %q of the content; only %q is known", cut(fields[0], maxName), nodeVersion)
	}
	created, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil || created <= 0 {
		return node{}, fmt.Errorf("creation time %q is not a positive number", cut(fields[1], maxName))
	}
	n := node{created: time.UnixMilli(created), clusterID: fields[2], host: fields[3]}
	if strings.TrimSpace(n.clusterID) == "" {
		return node{}, errors.New("no cluster id")
	}
	if n.host == "" {
		return node{}, errors.New("no host")
	}
	port, err := strconv.ParseInt(fields[4], 10, 32)
	if err != nil {
		return node{}, fmt.Errorf("port %q is not a number", cut(fields[4], maxName))
	}
	n.port = int(port)
	return n, nil
}

// expired tells that the node has not been heard of for longer than the expiration; 0 or less is never.
func (n node) expired(now time.Time, expiration time.Duration) bool {
	return expiration > 0 && now.Sub(n.created) > expiration
}
