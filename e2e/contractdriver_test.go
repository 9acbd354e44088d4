//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A driver is a program that plays many clients at once, as its standard input orders. It starts when the first client
// is needed.
type driver struct {
	until   *testing.T // the end of this test
	program func(t *testing.T) *exec.Cmd
	mu      sync.Mutex
	process *process
	orders  io.Writer
	books   []*logBook // by the client's number
}

// run starts the program unless it runs.
func (d *driver) run(t *testing.T) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.process != nil {
		return
	}
	cmd := d.program(t)
	orders, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.orders = orders
	d.process = start(d.until, &lineWriter{line: d.note}, cmd)
}

// note gives each client's book what the program says of the client. All else is trouble, and for everybody.
func (d *driver) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first, rest, _ := strings.Cut(line, " ")
	if number, err := strconv.Atoi(first); err == nil && number < len(d.books) {
		fmt.Fprintln(d.books[number], rest)
		return
	}
	for _, b := range d.books {
		fmt.Fprintln(b, line)
	}
}

// enter gives a client its number.
func (d *driver) enter(book *logBook) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.books = append(d.books, book)
	return len(d.books) - 1
}

// order lets a client do something, and waits until it is done.
func (d *driver) order(t *testing.T, verb string, number int, book *logBook, words ...string) {
	t.Helper()
	offset := len(book.String())
	d.mu.Lock()
	_, err := fmt.Fprintln(d.orders, verb, number, strings.Join(words, " "))
	d.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	book.wait(t, offset, patience, verb+" is done", func(line string) bool {
		if strings.HasPrefix(line, "failed") {
			t.Fatalf("%s %s: %s", verb, words, line)
		}
		return line == "done "+verb+"\n"
	})
}

// drivenPlayer is a driver's library with its version of MQTT.
type drivenPlayer struct {
	*driver
	version byte
}

func (p drivenPlayer) words(address, id, more string, values ...any) []string {
	host, port, _ := net.SplitHostPort(address)
	return []string{fmt.Sprintf("host=%s port=%s version=%d id=%s ", host, port, p.version, id) + fmt.Sprintf(more, values...)}
}

func (p drivenPlayer) listen(t *testing.T, address, id string, h hearing, book *logBook) func(*testing.T) {
	t.Helper()
	p.run(t)
	number := p.enter(book)
	words := p.words(address, id, "filter=%s qos=%d keep=%t expiry=%d", h.filter(), h.qos, h.keep, h.expiry())
	if h.will != "" {
		words = append(words, fmt.Sprintf("will=%s delay=%d", h.will, h.delay))
	}
	p.order(t, "listen", number, book, words...)
	return func(t *testing.T) {
		t.Helper()
		p.order(t, "leave", number, book)
	}
}

func (p drivenPlayer) speak(t *testing.T, address, id string, s saying) {
	t.Helper()
	p.run(t)
	book := newLogBook()
	words := p.words(address, id, "topic=%s qos=%d retain=%t text=%s", s.topic, s.qos, s.retain, s.text)
	if s.size > 0 {
		words = append(words, fmt.Sprint("size=", s.size))
	}
	p.order(t, "speak", p.enter(book), book, words...)
}

// A lineWriter is called with every line that is written to it.
type lineWriter struct {
	line func(string)
	rest bytes.Buffer
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	for rest := p; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			w.rest.Write(rest)
			return len(p), nil
		}
		w.rest.Write(rest[:i])
		w.line(w.rest.String())
		w.rest.Reset()
		rest = rest[i+1:]
	}
}
