package simulation

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// The picture is well-formed, has a line for each broker, and stays within its frame.
func TestChart(t *testing.T) {
	t.Parallel()
	s := Scenario{Backends: 20, Clients: 1000, GroupSize: 1, Event: Join, Rate: 100, Duration: 7 * time.Minute, Seed: 1}
	var results []*Result
	for _, name := range []string{"hash", "mqttlb"} {
		results = append(results, must(Run(s, name, nil)))
	}
	var b strings.Builder
	if err := Chart(&b, s, results); err != nil {
		t.Fatal(err)
	}
	lines, texts := 0, map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			if x.Name.Local == "polyline" {
				lines++
			}
		case xml.CharData:
			texts[strings.TrimSpace(string(x))]++
		}
	}
	if lines != 42 {
		t.Errorf("got %d lines, want 42", lines)
	}
	for _, want := range []string{"broker-0", "broker-6", "… 13 more", "broker-20", "0", "7", "20", "40"} {
		if texts[want] < 2 {
			t.Errorf("got %q %d times, want it in both plots", want, texts[want])
		}
	}
	if err := Chart(broken{}, s, results); err == nil {
		t.Error("got no error of a writer that fails")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestNice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ least, want float64 }{{0.9, 1}, {1, 1}, {1.1, 2}, {2.1, 5}, {5.1, 10}, {11, 20}, {70, 100}, {0.03, 0.05}} {
		if got := nice(c.least, 1, 2, 5); got != c.want {
			t.Errorf("nice(%v): got %v, want %v", c.least, got, c.want)
		}
	}
}
