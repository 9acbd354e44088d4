package scrape

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// manySeries is a page as a broker with many queues has it: n series of about 120 bytes.
func manySeries(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		if i%100 == 0 {
			fmt.Fprintf(&b, "# HELP rabbitmq_queue_messages_%d Sum of ready and unacknowledged messages in the queue.\n", i)
			fmt.Fprintf(&b, "# TYPE rabbitmq_queue_messages_%d gauge\n", i)
		}
		fmt.Fprintf(&b, "rabbitmq_queue_messages_%d{vhost=\"/\",queue=\"mqtt-subscription-client-%06dqos1\"} %d\n", i/100*100, i, i*7)
	}
	b.WriteString("# TYPE cpu gauge\ncpu 41.5\n")
	return b.Bytes()
}

// BenchmarkReadPage compares skipping with parsing everything. It does not show the network.
func BenchmarkReadPage(b *testing.B) {
	for _, n := range []int{5_000, 100_000} {
		text := manySeries(n)
		b.Run(fmt.Sprintf("how=skip/series=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				p, err := readPage(bytes.NewReader(text), []string{"cpu"}, 10)
				if err != nil || len(p.series) != 1 {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("how=parse/series=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				parser := expfmt.NewTextParser(model.UTF8Validation)
				if _, err := parser.TextToMetricFamilies(bytes.NewReader(text)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestReadPageMemory is the promise of the package comment: a page of any size costs one line.
func TestReadPageMemory(t *testing.T) {
	text := string(manySeries(50_000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := readPage(strings.NewReader(text), []string{"cpu"}, 10); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4*maxLine {
		t.Errorf("%d bytes were allocated for a page of %d", got, len(text))
	}
}
