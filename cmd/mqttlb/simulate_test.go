package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/simulation"
)

// tiny is a fleet that is simulated in no time.
func tiny(more ...string) []string {
	return append([]string{"simulate", "--backends", "3", "--clients", "2400", "--groups", "4", "--group-size", "3", "--duration", "10m"}, more...)
}

func TestSimulateTable(t *testing.T) {
	t.Parallel()
	got := execLine(tiny()...)
	if got.status != 0 || got.err != "" {
		t.Fatalf("got status %d and error %q", got.status, got.err)
	}
	compareGolden(t, "simulate.txt", got.out)
	if again := execLine(tiny()...); again.out != got.out {
		t.Errorf("got\n%s\nthe second time, want\n%s", again.out, got.out)
	}
	if other := execLine(tiny("--seed", "2")...); other.out == got.out {
		t.Error("got the same with another seed")
	}
}

// The most that can be asked for works, and a broker that is never even is shown as such.
func TestSimulateEvents(t *testing.T) {
	t.Parallel()
	for _, e := range simulation.Events() {
		args := tiny("--event", string(e), "--contenders", "round-robin,mqttlb", "--load", "pareto", "--wills", "0.5", "--reconnect", "30m", "--rate", "5/s")
		if e == simulation.Rolling {
			args = append(args, "--surge", "--duration", "1h")
		}
		got := execLine(args...)
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		if got.status != 0 || len(lines) != 5 || !strings.HasPrefix(lines[3], "round-robin ") || !strings.HasPrefix(lines[4], "mqttlb ") {
			t.Errorf("%s: got status %d, %q and\n%s", e, got.status, got.err, got.out)
		}
	}
}

func TestSimulateJSON(t *testing.T) {
	t.Parallel()
	got := execLine(tiny("--json", "--event", "hot", "--contenders", "mqttlb,emqx")...)
	var out struct {
		Scenario map[string]any
		Results  []struct {
			Contender     string
			Disconnects   *int
			WithinSeconds *float64 `json:"within_seconds"`
			Brokers       []string
			Samples       []struct {
				Seconds     int64
				Connections []int
				Loads       []float64
			}
		}
	}
	if err := json.Unmarshal([]byte(got.out), &out); err != nil || got.status != 0 {
		t.Fatalf("got status %d, %v and\n%s", got.status, err, got.out)
	}
	if out.Scenario["clients"] != 2400.0 || out.Scenario["duration_seconds"] != 600.0 || out.Scenario["event"] != "hot" {
		t.Errorf("got scenario %v", out.Scenario)
	}
	if len(out.Results) != 2 || out.Results[1].Contender != "emqx" {
		t.Fatalf("got %d results, want mqttlb and emqx", len(out.Results))
	}
	for _, r := range out.Results {
		if r.Disconnects == nil || len(r.Brokers) != 3 || len(r.Samples) < 300 {
			t.Fatalf("%s: got %d brokers and %d samples", r.Contender, len(r.Brokers), len(r.Samples))
		}
		for _, s := range r.Samples {
			if len(s.Connections) != 3 || len(s.Loads) != 3 {
				t.Fatalf("%s: got sample %+v", r.Contender, s)
			}
		}
	}
	if out.Results[1].WithinSeconds != nil {
		t.Error("EMQX does not look at load: want null for when the hot broker has cooled down")
	}
}

func TestSimulateSVG(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "loads.svg")
	if got := execLine(tiny("--svg", path, "--backends", "12", "--contenders", "hash,mqttlb")...); got.status != 0 || got.out == "" {
		t.Fatalf("got status %d and %q", got.status, got.err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines, texts := 0, []string{}
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not well-formed: %v", err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			if x.Name.Local == "polyline" {
				lines++
			}
		case xml.CharData:
			texts = append(texts, strings.TrimSpace(string(x)))
		}
	}
	if lines != 2*13 {
		t.Errorf("got %d lines, want one for each of 13 brokers of 2 contenders", lines)
	}
	for _, want := range []string{"broker-12", "… 5 more", "0", "10"} {
		if !slices.Contains(texts, want) {
			t.Errorf("got no text %q in the picture", want)
		}
	}
	if got := execLine(tiny("--svg", filepath.Join(t.TempDir(), "no", "where.svg"))...); got.status != 1 || !strings.HasPrefix(got.err, "mqttlb: --svg: open ") {
		t.Errorf("a file that cannot be made: got status %d and %q", got.status, got.err)
	}
}

func TestSimulateUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, err string }{
		{"--backends 1", "--backends 1: at least 2 are needed, or there is nothing to choose"},
		{"--backends 65 --clients 1000", "--backends 65: at most 64 can be simulated"},
		{"--clients 59", "--clients 59: at least ten for each backend are needed, here 60"},
		{"--clients 1000001", "--clients 1000001: at most 1000000 can be simulated"},
		{"--groups -1", "--groups -1: must be 0 or more"},
		{"--groups 4001", "--groups 4001: with 5 members each they would need more than the 20000 clients there are"},
		{"--group-size 0", "--group-size 0: must be 1 or more"},
		{"--load huge", `--load "huge" is unknown; known are equal, heavy, pareto`},
		{"--wills 1.5", "--wills 1.5: must be between 0 and 1"},
		{"--event fire", `--event "fire" is unknown; known are join, leave, rolling, hot, none`},
		{"--rate fast", `invalid argument "fast" for "--rate" flag: must be a rate such as 100/s; see mqttlb simulate --help`},
		{"--rate 0", "--rate 0/s: must be between 1/s and 10000/s"},
		{"--rate NaN", "--rate NaN/s: must be between 1/s and 10000/s"},
		{"--reconnect 5s", "--reconnect 5s: must be 1m or more, or 0 for no natural reconnects"},
		{"--duration 5s", "--duration 5s: must be between 1m0s and 24h0m0s"},
		{"--surge", "--surge: makes sense with event rolling only, the event is join"},
		{"--contenders mqttlb,nginx", `--contenders: "nginx" is unknown; known are mqttlb, round-robin, least-connections, hash, emqx`},
		{"--contenders hash,hash", `--contenders: "hash" is named twice`},
		{"--contenders=", "--contenders: name at least one of mqttlb, round-robin, least-connections, hash, emqx"},
		{"now", `unknown command "now" for "mqttlb simulate"; see mqttlb simulate --help`},
	} {
		got := execLine(append([]string{"simulate"}, strings.Fields(c.args)...)...)
		if got.status != 2 || got.err != "mqttlb: "+c.err+"\n" || got.out != "" {
			t.Errorf("simulate %s: got status %d and %q, want 2 and %q", c.args, got.status, got.err, c.err)
		}
	}
}
