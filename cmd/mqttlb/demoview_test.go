package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// demoOutageState is a picture of three brokers, one of them away.
func demoOutageState() *demoState {
	return &demoState{
		At: 12*time.Second + 340*time.Millisecond, Of: 45 * time.Second,
		Address: "127.0.0.1:41883", Admin: "127.0.0.1:40080",
		Clients: 300, Seated: 298, AtHome: 196, Sticky: 0.7391,
		Brokers: []demoBroker{
			{Name: "broker-1", Clients: 150, AtHome: 99, Own: 100, demoRate: demoRate{71.4, 70.6}},
			{Name: "broker-2", Gone: true, Own: 102},
			{Name: "broker-3", Clients: 148, AtHome: 97, Own: 98, demoRate: demoRate{1234, 75}},
		},
		Totals: demoTotals{Connects: 412, Faithful: 10, Lost: 102, Published: 12040, Delivered: 11900, Crossed: 8010, Fled: 102, Spilled: 1, Returned: 1},
		Events: []demoEvent{
			{0, "300 clients connect, 225 of them with MQTT 5, 75 with MQTT 3.1.1"},
			{2 * time.Second, "all are connected: broker-1 100, broker-2 102, broker-3 98"},
			{11 * time.Second, "broker-2 leaves, and with it the connections of 102 clients"},
		},
		Outages: []demoOutage{{Broker: "broker-2", Clients: 102, Recovered: 930 * time.Millisecond}},
	}
}

func TestDemoTable(t *testing.T) {
	for _, c := range []struct {
		name          string
		width, height int
		want          string
	}{
		{"usual", 80, 24, `
mqttlb demo  300 clients → 127.0.0.1:41883 → 3 brokers                12 of 45 s
             operators look at http://127.0.0.1:40080

  broker     state  clients                                        in/s    out/s
  broker-1   up         150  █████████████████████▒▒▒▒▒▒▒▒▒▒·        71       71
  broker-2   gone         0  ·····················                    0        0
  broker-3   up         148  ████████████████████▒▒▒▒▒▒▒▒▒▒▒      1,234       75
                             █ at home  ▒ guest  · its own, elsewhere

  connected   298    connects       412    published  12,040
  at home     196    same broker     10    delivered  11,900
  moved away  103    lost           102    across      8,010
  returned      1    sticky       73.9%

  t+0s   300 clients connect, 225 of them with MQTT 5, 75 with MQTT 3.1.1
  t+2s   all are connected: broker-1 100, broker-2 102, broker-3 98
  t+11s  broker-2 leaves, and with it the connections of 102 clients
`},
		{"narrow and low", 50, 15, `
mqttlb demo  300 clients → 127.0.0.1:41883 → 3 bro
             operators look at http://127.0.0.1:40

  broker     state  clients               in/s
  broker-1   up         150  █████▒▒▒       71
  broker-2   gone         0  ·····           0
  broker-3   up         148  █████▒▒▒    1,234
                             █ at home  ▒ guest  ·

  connected   298    connects       412    publish
  at home     196    same broker     10    deliver
  moved away  103    lost           102    across
  returned      1    sticky       73.9%

  t+11s  broker-2 leaves, and with it the connecti
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got strings.Builder
			for _, l := range demoTable(demoOutageState(), c.width, c.height) {
				got.WriteString("\n" + l.paint(c.width, false))
			}
			if got.String()+"\n" != c.want {
				t.Errorf("got:%s\nwant:%s", got.String(), c.want)
			}
		})
	}
}

func TestDemoPaint(t *testing.T) {
	l := demoLine{{"plain ", demoPlain}, {"█████", demoCyan}, {"gone", demoRed}}
	for _, c := range []struct {
		width  int
		colour bool
		want   string
	}{
		{20, false, "plain █████gone"},
		{20, true, "plain \x1b[36m█████\x1b[0m\x1b[31mgone\x1b[0m"},
		{9, true, "plain \x1b[36m███\x1b[0m"},
		{9, false, "plain ███"},
		{6, false, "plain"},
		{0, false, ""},
	} {
		if got := l.paint(c.width, c.colour); got != c.want {
			t.Errorf("width %d, colour %v: got %q, want %q", c.width, c.colour, got, c.want)
		}
	}
}

func TestDemoWords(t *testing.T) {
	p := demoOutageState()
	if got, want := demoPulse(p), "t+12s  broker-1 150, broker-2 gone, broker-3 148 | 196 of 300 at home | 1305 messages/s"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	const want = `
300 clients, 3 brokers, 12 s
  spread     150 / 0 / 148, the fullest has 1.51 times the mean; 196 of 298 are at home
  connects   412, 10 of them to the same broker as before; 102 connections were lost
  outage     broker-2 left with 102 clients; all were served again after 0.9 s
  moved      102 while their broker was away, 1 because it was full; 1 came home again
  messages   12,040 published, 11,900 delivered, 8,010 of them from one broker to another; 140 while their receiver reconnected
`
	if got := "\n" + strings.Join(demoSummary(p), "\n") + "\n"; got != want {
		t.Errorf("got:%s\nwant:%s", got, want)
	}
	p.Outages[0].Home = true
	if got := demoOutcome(p.Outages[0]); !strings.HasSuffix(got, ", and went home later") {
		t.Errorf("after the return: got %q", got)
	}
	if got := demoSummary(&demoState{Brokers: make([]demoBroker, 3)}); !strings.Contains(got[1], "nobody") {
		t.Errorf("without clients: got %q", got)
	}
}

func TestDemoScreen(t *testing.T) {
	var out bytes.Buffer
	width := 80
	s := &demoScreen{out: &out, terminal: true, size: func() (int, int) { return width, 24 }}
	p := demoOutageState()
	s.show(p)
	lines := strings.Count(out.String(), "\n")
	if !strings.HasPrefix(out.String(), demoHideCursor) || lines != s.drawn {
		t.Errorf("the first picture: got %q, want the cursor hidden and %d lines", out.String(), s.drawn)
	}
	out.Reset()
	s.show(p)
	if !strings.HasPrefix(out.String(), "\r\x1b[17A") || strings.Contains(out.String(), demoClearAll) {
		t.Errorf("the second picture: got %q, want it to begin %d lines higher", out.String(), lines)
	}
	out.Reset()
	width = 60
	s.show(p)
	if !strings.HasPrefix(out.String(), demoClearAll) {
		t.Errorf("after a change of size: got %q, want a new beginning", out.String())
	}
	out.Reset()
	s.close([]string{"the summary"})
	if out.String() != demoShowCursor+"\nthe summary\n" {
		t.Errorf("at the end: got %q, want the cursor and the summary", out.String())
	}
}

func TestDemoTail(t *testing.T) {
	tail := new(demoTail)
	if tail.String() != "" {
		t.Errorf("an empty tail has %q", tail)
	}
	for range 100 {
		_, _ = tail.Write([]byte("an earlier line of the log, longer than nothing\n"))
	}
	_, _ = tail.Write([]byte("the last line\n"))
	got := tail.String()
	if len(got) > demoTailSize || !strings.HasPrefix(got, "an earlier") || !strings.HasSuffix(got, "the last line") {
		t.Errorf("got %d bytes %q, want the last lines as they were", len(got), got)
	}
}
