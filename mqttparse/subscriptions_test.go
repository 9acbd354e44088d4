package mqttparse_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A line is both directions of a connection, as a proxy follows them.
type line struct {
	version  byte
	trackers [2]mqttparse.Tracker
	counts   [2]mqttparse.Counts
	mqttparse.Subscriptions
	changes int
}

func newLine(version byte, resumed string) *line {
	l := &line{version: version}
	l.Reset(version, resumed)
	return l
}

// feed gives a chunk of one direction to whoever wants it.
func (l *line) feed(down int, chunk []byte) {
	t, n := &l.trackers[down], &l.counts[down]
	before, begun := *t, n.Subscribing()
	t.Feed(chunk, n)
	if !before.Subscribing() && n.Subscribing() == begun {
		return
	}
	if down == 0 {
		l.Up(before, chunk)
	} else if l.Down(before, chunk) {
		l.changes++
	}
}

// groups are the groups, separated by commas.
func (l *line) groups() string { return strings.Join(l.AppendGroups(nil), ",") }

// A said is a whole packet of one direction.
type said struct {
	down  int
	bytes []byte
}

// checkCuts plays packets whole and cut everywhere, and wants the same groups behind each packet.
func checkCuts(t *testing.T, version byte, resumed string, talk []said, want []string) {
	t.Helper()
	whole := newLine(version, resumed)
	for i, p := range talk {
		whole.feed(p.down, p.bytes)
		if got := whole.groups(); got != want[i] {
			t.Fatalf("packet %d, % x: got groups %q, want %q", i, head(p.bytes), got, want[i])
		}
	}
	for _, piece := range []int{1, 2, 3, 7} {
		l := newLine(version, resumed)
		for i, p := range talk {
			for part := range slices.Chunk(p.bytes, piece) {
				l.feed(p.down, part)
			}
			if got := l.groups(); got != want[i] {
				t.Fatalf("in pieces of %d, packet %d, % x: got groups %q, want %q", piece, i, head(p.bytes), got, want[i])
			}
		}
		if l.changes != whole.changes || l.Idle() != whole.Idle() {
			t.Fatalf("in pieces of %d: got %d changes, idle %t, want %d, %t", piece, l.changes, l.Idle(), whole.changes, whole.Idle())
		}
	}
}

// The packets of these tests, written by hand. Packet identifiers are below 256.
func text(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }

func subscribe(version, id byte, filters ...string) said {
	body := "\x00" + string([]byte{id})
	if version >= 5 {
		body += "\x02\x0b\x07" // subscription identifier
	}
	for _, f := range filters {
		body += text(f) + "\x01"
	}
	return said{0, append(appendHeader(nil, 0x82, len(body)), body...)}
}

func unsubscribe(version, id byte, filters ...string) said {
	body := "\x00" + string([]byte{id})
	if version >= 5 {
		body += "\x00"
	}
	for _, f := range filters {
		body += text(f)
	}
	return said{0, append(appendHeader(nil, 0xa2, len(body)), body...)}
}

func answer(first, version, id byte, codes ...byte) said {
	body := []byte{0, id}
	if version >= 5 {
		body = append(body, 0)
	}
	body = append(body, codes...)
	return said{1, append(appendHeader(nil, first, len(body)), body...)}
}

func suback(version, id byte, codes ...byte) said { return answer(0x90, version, id, codes...) }

func unsuback(version, id byte, codes ...byte) said {
	if version < 5 {
		codes = nil
	}
	return answer(0xb0, version, id, codes...)
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("g", mqttparse.MaxShareName)
	for _, version := range []byte{3, 4, 5} {
		sub := func(id byte, filters ...string) said { return subscribe(version, id, filters...) }
		end := func(id byte, filters ...string) said { return unsubscribe(version, id, filters...) }
		ok := func(id byte, codes ...byte) said { return suback(version, id, codes...) }
		ended := func(id byte, codes ...byte) said { return unsuback(version, id, codes...) }
		publish := said{0, []byte("\x30\x0b\x00\x08$share/x!")}
		for _, c := range []struct {
			name, resumed string
			talk          []said
			want          []string // behind each packet
		}{
			{"no share", "", []said{sub(1, "a/b", "$share", "$shared/g/t", "$sys/#"), ok(1, 0, 0, 0, 0)}, []string{"", ""}},
			{"one", "", []said{sub(1, "$share/g/a/b"), publish, ok(1, 1)}, []string{"", "", "g"}},
			{"among others", "", []said{sub(1, "a", "$share/g/a", "b", "$share/h/a"), ok(1, 0, 1, 2, 0)}, []string{"", "g,h"}},
			{"refused", "", []said{sub(1, "a", "$share/g/a", "$share/h/a"), ok(1, 0, 0x80, 0)}, []string{"", "h"}},
			{"answer without codes", "", []said{sub(1, "$share/g/a"), ok(1), ok(1, 0)}, []string{"", "", ""}},
			{"answer to nothing", "", []said{ok(1, 0), sub(1, "$share/g/a"), ok(2, 0), ok(1, 0)}, []string{"", "", "", "g"}},
			{"wrong answer", "", []said{sub(1, "$share/g/a"), ended(1, 0), ok(1, 0)}, []string{"", "", ""}},
			{"two filters", "", []said{
				sub(1, "$share/g/a"), sub(2, "$share/g/b"), ok(1, 0), ok(2, 0), end(3, "$share/g/a"), ended(3, 0), end(4, "$share/g/b"), ended(4, 0),
			}, []string{"", "", "g", "g", "g", "g", "g", ""}},
			{"the same filter twice", "", []said{
				sub(1, "$share/g/a"), ok(1, 0), sub(2, "$share/g/a"), ok(2, 1), end(3, "$share/g/a"), ended(3, 0),
			}, []string{"", "g", "g", "g", "g", ""}},
			{"both at once", "", []said{sub(1, "$share/g/a"), end(2, "$share/g/a"), ok(1, 0), ended(2, 0)}, []string{"", "", "g", ""}},
			{"another filter", "", []said{sub(1, "$share/g/a"), ok(1, 0), end(2, "$share/g/b", "g/a", "a"), ended(2, 0x11, 0x11, 0x11)}, []string{"", "g", "g", "g"}},
			{"order", "", []said{
				sub(1, "$share/b/x"), ok(1, 0), sub(2, "$share/a/x"), ok(2, 0), end(3, "$share/b/x"), ended(3, 0), sub(4, "$share/b/x"), ok(4, 0),
			}, []string{"", "b", "b", "b,a", "b,a", "a", "a", "a,b"}},
			{"what is no share", "", []said{
				sub(1, "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g#/a", "$queue/a", "$SHARE/g/a", "$share/", "$share/"+long+"g/a"),
				ok(1, 0, 0, 0, 0, 0, 0, 0, 0, 0),
			}, []string{"", ""}},
			{"longest name", "", []said{sub(1, "$share/"+long+"/a"), ok(1, 0)}, []string{"", long}},
			{"long filters", "", []said{
				sub(1, strings.Repeat("x", 65535), "$share/g/"+strings.Repeat("y", 65000)+"1", "$share/h/"+strings.Repeat("y", 65000)+"2"), ok(1, 0, 0, 0),
			}, []string{"", "g,h"}},
			{"identifier used anew", "", []said{sub(1, "$share/g/a"), sub(1, "$share/h/a"), ok(1, 0)}, []string{"", "", "h"}},
			{"resumed and gone on", "g", []said{answer(0x20, 3, 0), sub(1, "$share/h/a"), ok(1, 0)}, []string{"", "", "h"}},
			{"resumed", "g", []said{{1, []byte("\x20\x02\x01\x00")}, sub(1, "$share/h/a"), ok(1, 0), end(2, "$share/g/t"), ended(2, 0)}, []string{"g", "g", "g,h", "g,h", "h"}},
			{"resumed and subscribed", "g", []said{{1, []byte("\x20\x02\x01\x00")}, sub(1, "$share/g/a"), ok(1, 0), end(2, "$share/g/a"), ended(2, 0)}, []string{"g", "g", "g", "g", ""}},
		} {
			t.Run(fmt.Sprintf("%s version=%d", c.name, version), func(t *testing.T) {
				t.Parallel()
				checkCuts(t, version, c.resumed, c.talk, c.want)
			})
		}
	}
}

// Only MQTT 5 tells that UNSUBSCRIBE has failed.
func TestUnsubscribeFails(t *testing.T) {
	t.Parallel()
	talk := []said{
		subscribe(5, 1, "$share/g/a"), suback(5, 1, 0),
		unsubscribe(5, 2, "$share/g/a"), unsuback(5, 2, 0x87), unsubscribe(5, 2, "$share/g/a"), unsuback(5, 2), unsubscribe(5, 2, "$share/g/a"), unsuback(5, 2, 0),
	}
	checkCuts(t, 5, "", talk, []string{"", "g", "g", "g", "g", "g", "g", ""})
}

// However much a client asks for, little is kept, and what is kept is still right.
func TestSubscriptionsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLine(5, "")
	var filters []string
	for i := range 1000 {
		filters = append(filters, fmt.Sprintf("$share/g%d/%d", i/2, i))
	}
	granted := make([]byte, len(filters))
	p := subscribe(5, 1, filters...)
	l.feed(p.down, p.bytes)
	p = suback(5, 1, granted...)
	l.feed(p.down, p.bytes)
	if got := len(l.AppendGroups(nil)); got != 32 {
		t.Errorf("got %d groups, want those of the first 64 subscriptions", got)
	}
	for _, some := range [][]string{filters[:63], filters[63:64]} {
		p = unsubscribe(5, 2, some...)
		l.feed(p.down, p.bytes)
		p = unsuback(5, 2, make([]byte, len(some))...)
		l.feed(p.down, p.bytes)
		if want := len(some) == 1; (l.groups() == "") != want || l.Idle() != want {
			t.Errorf("got groups %q, idle %t, want none only in the end", l.groups(), l.Idle())
		}
	}
	p = subscribe(5, 1, filters...)
	l.feed(p.down, p.bytes)
	for i := range 64 {
		granted[i] = 0x80
	}
	p = suback(5, 1, granted...)
	l.feed(p.down, p.bytes)
	if got := l.groups(); got != "" {
		t.Errorf("got groups %q, want none: nobody noted the requests beyond the first 64", got)
	}
	for id := range byte(200) { // a broker that never answers
		p = subscribe(5, id, "$share/g/a")
		l.feed(p.down, p.bytes)
	}
	for id := range byte(200) {
		p = suback(5, id, 0)
		l.feed(p.down, p.bytes)
	}
	if got := l.groups(); got != "g" {
		t.Errorf("got groups %q, want g", got)
	}
}

// What is not worth remembering leaves nothing behind, so a proxy need not keep it.
func TestSubscriptionsIdle(t *testing.T) {
	t.Parallel()
	l := newLine(4, "")
	if !l.Idle() {
		t.Error("got a fresh one busy")
	}
	p := subscribe(4, 1, "a", "$share/g")
	for _, b := range p.bytes {
		l.feed(0, []byte{b})
	}
	l.feed(1, suback(4, 1, 0, 0).bytes)
	l.feed(0, unsubscribe(4, 2, "$share/g/a").bytes)
	if !l.Idle() {
		t.Error("got one busy after requests without a shared subscription")
	}
	l.feed(0, subscribe(4, 1, "$share/g/a").bytes)
	if l.Idle() {
		t.Error("got one idle that waits for an answer")
	}
	l.feed(1, suback(4, 1, 0x80).bytes)
	if !l.Idle() {
		t.Error("got one busy after its request was refused")
	}
}

// FuzzSubscriptions has clients and brokers of two libraries talk, cuts what they say anywhere, and compares with what
// the libraries' own decoders make of the whole packets.
func FuzzSubscriptions(f *testing.F) {
	for seed := range uint64(30) {
		f.Add(seed, byte(4+seed%2))
	}
	f.Fuzz(func(t *testing.T, seed uint64, version byte) {
		version = 4 + version%2
		r := rand.New(rand.NewPCG(seed, 9))
		l, truth := newLine(version, ""), &ledger{version: version}
		var rest [2][]byte // said, but not fed
		deliver := func(down int, all bool) {
			for len(rest[down]) > 0 && (all || r.IntN(3) > 0) {
				k := min(len(rest[down]), 1+r.IntN(30))
				l.feed(down, rest[down][:k])
				rest[down] = rest[down][k:]
			}
		}
		for range 40 {
			p := truth.talk(t, r)
			rest[p.down] = append(rest[p.down], p.bytes...)
			deliver(1-p.down, true) // no answer overtakes its question
			deliver(p.down, r.IntN(2) == 0)
		}
		deliver(0, true)
		deliver(1, true)
		if got, want := l.AppendGroups(nil), truth.groups(); !slices.Equal(got, want) {
			t.Fatalf("got groups %v, want %v", got, want)
		}
	})
}

// FuzzSubscriptionsCuts feeds arbitrary bytes both ways, and wants the same from them however they are cut.
func FuzzSubscriptionsCuts(f *testing.F) {
	f.Add(subscribe(5, 1, "$share/g/a", "x").bytes, suback(5, 1, 0, 0).bytes, byte(5), uint64(1))
	f.Add(subscribe(4, 1, "$share/g/a").bytes, suback(4, 1, 0).bytes, byte(4), uint64(2))
	f.Add([]byte("\x82\x05\x00\x01\xff\xff\xff"), []byte("\x90\x06\x00\x01\xff\xff\xff\xff"), byte(5), uint64(3))
	f.Fuzz(func(t *testing.T, up, down []byte, version byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 10))
		whole, cut := newLine(version, "r"), newLine(version, "r")
		for i, b := range [][]byte{up, down} {
			whole.feed(i, b)
			for len(b) > 0 {
				k := min(len(b), 1+r.IntN(9))
				cut.feed(i, b[:k])
				b = b[k:]
			}
		}
		got, want := cut.AppendGroups(nil), whole.AppendGroups(nil)
		if !slices.Equal(got, want) || len(got) > 65 || cut.Idle() != whole.Idle() {
			t.Fatalf("up % x, down % x: got groups %q, idle %t, whole %q, %t", head(up), head(down), got, cut.Idle(), want, whole.Idle())
		}
	})
}
