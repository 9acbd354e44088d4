package health

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// maxSecret bounds a password: MQTT cannot carry a longer one.
const maxSecret = 65535

// A secret is a password in a file that may be replaced at any time. While the file cannot be read, the
// last password that was read counts: a moment without the file must not bring all backends down.
type secret struct {
	path string
	mu   sync.Mutex
	last []byte
}

// get returns the password, nil without a file. There may be both a password and an error.
func (s *secret) get() ([]byte, error) {
	if s.path == "" {
		return nil, nil
	}
	now, err := readSecret(s.path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.last = now
	}
	return s.last, err
}

// readSecret returns what is in the file, without a newline at the end.
func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("password file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+3))
	if err != nil {
		return nil, fmt.Errorf("password file: %w", err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	switch {
	case len(b) == 0:
		err = errors.New("it is empty")
	case len(b) > maxSecret:
		err = fmt.Errorf("it is longer than %d bytes", maxSecret)
	default:
		return b, nil
	}
	return nil, fmt.Errorf("password file %s: %w", path, err)
}
