package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestDemoTellsItsStory(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var out bytes.Buffer
	o := demoOptions{brokers: 3, clients: 30, duration: 3 * time.Second, log: filepath.Join(t.TempDir(), "log"), admin: "127.0.0.1:0"}
	pace := newDemoPace(o.duration)
	pace.patience = time.Minute // the machine may be busy
	if err := runDemo(t.Context(), o, pace, &environment{out: &out}); err != nil {
		t.Fatalf("%v; the demo said:\n%s", err, &out)
	}
	story := regexp.MustCompile(`(?s)^mqttlb demo  30 clients → 127\.0\.0\.1:\d+ → 3 brokers\n *operators look at http://127\.0\.0\.1:\d+\n.*` +
		`30 clients connect, 23 of them with MQTT 5, 7 with MQTT 3\.1\.1\n.*` +
		`all are connected: broker-1 \d+, broker-2 \d+, broker-3 \d+\n.*` +
		`broker-2 leaves, and with it the connections of (\d+) clients\n.*` +
		`all of them are served again after [\d.]+ s: broker-1 \+\d+, broker-3 \+\d+\n.*` +
		`broker-2 is back;.*` +
		`all are home again, each on the broker that it had before\n.*` +
		`the end\n.*` +
		`spread .*all are at home\n.*` +
		`broker-2 left with (\d+) clients; all were served again after [\d.]+ s, and went home later\n`)
	numbers := story.FindStringSubmatch(out.String())
	if numbers == nil {
		t.Fatalf("this is not the story that was to be told:\n%s", &out)
	}
	if numbers[1] != numbers[2] {
		t.Errorf("%s clients lost their broker, the summary says %s", numbers[1], numbers[2])
	}
	if strings.Contains(out.String(), " 0 delivered") {
		t.Errorf("no message was delivered:\n%s", &out)
	}
	if log, err := os.ReadFile(o.log); err != nil || !strings.Contains(string(log), "msg=listening") {
		t.Errorf("the log has %q (%v), want what mqttlb logs", log, err)
	}
}

// A stopper ends a context when it is told a certain thing.
type stopper struct {
	bytes.Buffer
	at   string
	stop context.CancelFunc
}

func (s *stopper) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.at) {
		s.stop()
	}
	return s.Buffer.Write(b)
}

func TestDemoCanBeStopped(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, at := range []string{"12 clients connect", "all are connected", "broker-2 leaves", "broker-1 leaves"} {
		t.Run(at, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			out := &stopper{at: at, stop: stop}
			pace := newDemoPace(time.Second)
			pace.duration, pace.patience = 0, time.Minute
			if err := runDemo(ctx, demoOptions{brokers: 2, clients: 12}, pace, &environment{out: out}); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), "\n12 clients, 2 brokers, ") || strings.Contains(out.String(), "the end") {
				t.Errorf("want the summary of a story that was not told to its end, got:\n%s", out)
			}
		})
	}
}

func TestDemoStory(t *testing.T) {
	seats, err := newDemoSeats(3, 9)
	if err != nil {
		t.Fatal(err)
	}
	stage := &demoStage{seats: seats}
	story := newDemoStory(newDemoPace(30*time.Second), stage, newDemoFleet(netip.AddrPort{}, demoPace{}, seats))
	if story.step(story.began.Add(14*time.Second)) || story.err != nil {
		t.Errorf("while clients connect: got error %v, want patience", story.err)
	}
	if story.step(story.began.Add(16 * time.Second)); !errors.Is(story.err, errDemoStuck) || !strings.HasSuffix(story.err.Error(), "missing 9 clients that should have connected") {
		t.Errorf("when nobody has connected: got error %v, want it to say so", story.err)
	}
}

func TestDemoSeats(t *testing.T) {
	s, err := newDemoSeats(12, 500)
	if err != nil {
		t.Fatal(err)
	}
	if away := s.away(); len(away) != 0 {
		t.Errorf("away are %v, want nobody before they have come", away)
	}
	home := s.seat(0).home
	other := (home + 1) % 12
	id := s.ids[0]

	s.connected(demoBrokerName(home), id)
	s.connected(demoBrokerName(home), "a guest from outside")
	s.leave(home)
	s.connected(demoBrokerName(other), id) // before its old broker has missed it
	s.disconnected(id)
	if got := s.seat(0); got.at != other {
		t.Errorf("after a change of brokers: got broker %d, want %d", got.at, other)
	}
	if away := s.away(); len(away) != 1 || away[0] != 0 {
		t.Errorf("away are %v, want the client that has fled", away)
	}
	s.back(home)
	s.disconnected(id)
	if got := s.seat(0); got.at != demoNowhere {
		t.Errorf("after its last connection: got broker %d, want none", got.at)
	}
	s.connected(demoBrokerName(home), id)
	s.connected(demoBrokerName((s.seat(1).home+1)%12), s.ids[1])
	want := demoTotals{Connects: 4, Fled: 1, Spilled: 1, Returned: 1}
	if s.totals != want {
		t.Errorf("counted %+v, want %+v", s.totals, want)
	}

	p := &demoState{Brokers: make([]demoBroker, 12)}
	s.fill(p)
	own := 0
	for i, b := range p.Brokers {
		own += b.Own
		if b.Own < 20 || b.Own > 70 {
			t.Errorf("%d of 500 clients have their home on broker %d of 12, want about 42", b.Own, i)
		}
	}
	if own != 500 || p.Seated != 2 || p.AtHome != 1 {
		t.Errorf("the picture shows %d homes, %d connected and %d at home; want 500, 2 and 1", own, p.Seated, p.AtHome)
	}
}

func TestDemoOptions(t *testing.T) {
	for _, c := range []struct {
		options demoOptions
		want    string // in the error; empty for none
	}{
		{demoOptions{brokers: 3, clients: 300, duration: time.Minute}, ""},
		{demoOptions{brokers: 2, clients: 10, duration: 0}, ""},
		{demoOptions{brokers: 0, clients: 300}, "at least 2"},
		{demoOptions{brokers: -1, clients: 300}, "at least 2"},
		{demoOptions{brokers: 17, clients: 300}, "room for 16"},
		{demoOptions{brokers: 3, clients: 0}, "at least 10"},
		{demoOptions{brokers: 3, clients: -5}, "at least 10"},
		{demoOptions{brokers: 3, clients: 20_000}, "load test"},
		{demoOptions{brokers: 3, clients: 500}, "needs about 2200 file descriptors, and this process may open 2000; use at most 450 clients"},
		{demoOptions{brokers: 3, clients: 300, duration: -time.Second}, "at least 5s"},
		{demoOptions{brokers: 3, clients: 300, duration: time.Second}, "at least 5s"},
	} {
		err := c.options.check(2000)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: got error %v, want none", c.options, err)
		case c.want != "" && (!errors.As(err, new(usageError)) || !strings.Contains(fmt.Sprint(err), c.want)):
			t.Errorf("%+v: got error %v, want a usage error with %q", c.options, err, c.want)
		}
	}
}

func TestDemoCommandRefusesWrongFlags(t *testing.T) {
	for _, args := range [][]string{
		{"--brokers", "0"},
		{"--admin", "nonsense"},
		{"--log", t.TempDir()},
	} {
		c := demoCommand(&environment{out: new(bytes.Buffer)})
		c.SetArgs(args)
		c.SilenceErrors, c.SilenceUsage = true, true
		if err := c.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
