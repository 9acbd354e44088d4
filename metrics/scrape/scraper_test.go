package scrape

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// A fake is a cluster of brokers without a network. Its time is that of the test's bubble.
type fake struct {
	*Scraper
	began time.Time

	lock        sync.Mutex
	pages       map[string]string // by name of the backend; "" hangs
	asked       map[string][]time.Duration
	open, most  int
	openOf      map[string]int
	overlapping bool
	readings    []Reading
}

// newFake returns a scraper whose URLs hold the names of backends.
func newFake(t *testing.T, change func(*Options)) *fake {
	t.Helper()
	f := &fake{began: time.Now(), pages: make(map[string]string), asked: make(map[string][]time.Duration), openOf: make(map[string]int)}
	o := Options{
		URL: "http://{host}/{name}", Figures: []FigureOptions{{Metric: "m"}}, Hot: "level",
		Clock: func() int64 { return int64(time.Since(f.began)) + 1 },
		OnReading: func(r Reading) {
			f.lock.Lock()
			defer f.lock.Unlock()
			f.readings = append(f.readings, r)
		},
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.transport = func(string) http.RoundTripper { return f }
	f.Scraper = s
	return f
}

func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	f.lock.Lock()
	f.asked[name] = append(f.asked[name], time.Since(f.began))
	f.open++
	f.openOf[name]++
	f.most = max(f.most, f.open)
	f.overlapping = f.overlapping || f.openOf[name] > 1
	page := f.pages[name]
	f.lock.Unlock()
	if page == "" {
		<-r.Context().Done()
	} else {
		time.Sleep(50 * time.Millisecond)
	}
	f.lock.Lock()
	f.open--
	f.openOf[name]--
	f.lock.Unlock()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(page))}, nil
}

func (f *fake) page(name, format string, args ...any) {
	f.lock.Lock()
	defer f.lock.Unlock()
	f.pages[name] = fmt.Sprintf(format, args...)
}

// of are the readings of a backend.
func (f *fake) of(name string) []Reading {
	f.lock.Lock()
	defer f.lock.Unlock()
	return slices.DeleteFunc(slices.Clone(f.readings), func(r Reading) bool { return r.Backend != name })
}

// openNow counts the scrapes that are running.
func (f *fake) openNow() int {
	f.lock.Lock()
	defer f.lock.Unlock()
	return f.open
}

// run runs the scraper within a bubble, until the test ends.
func (f *fake) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		began := time.Now()
		cancel()
		<-done
		if took := time.Since(began); took > 50*time.Millisecond { // what the fake needs for an answer
			t.Errorf("it took %v to stop", took)
		}
		if n := f.openNow(); n != 0 || f.overlapping {
			t.Errorf("%d scrapes were left, scrapes of one backend overlapped: %t", n, f.overlapping)
		}
	})
}

func backends(format string, n int) []balancer.Backend {
	all := make([]balancer.Backend, n)
	for i := range all {
		all[i] = balancer.Backend{Name: fmt.Sprintf(format, i), Address: fmt.Sprintf("10.0.0.%d:1883", i%256)}
	}
	return all
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, nil)
		for _, b := range backends("n%d", 20) {
			f.page(b.Name, "m 0.5\nlevel 3\n")
		}
		f.Set(backends("n%d", 20))
		f.run(t)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		firsts := make(map[time.Duration]bool)
		f.lock.Lock()
		defer f.lock.Unlock()
		for name, times := range f.asked {
			if times[0] > DefaultInterval || len(times) < 38 || len(times) > 43 {
				t.Errorf("%s was asked %d times, first at %v", name, len(times), times[0])
			}
			firsts[times[0]] = true
			for i := 1; i < len(times); i++ {
				if gap := times[i] - times[i-1]; gap < 14*time.Second || gap > 16*time.Second {
					t.Errorf("%s was asked after %v", name, gap)
				}
			}
		}
		if len(f.asked) != 20 || len(firsts) < 15 {
			t.Errorf("%d backends were asked, at %d different times", len(f.asked), len(firsts))
		}
		for _, r := range f.readings {
			if r.Err != nil || r.Util != (balancer.Figure{Value: 0.5, At: r.At}) || r.Load != r.Util || r.Level != (balancer.Figure{Value: 3, At: r.At}) {
				t.Fatalf("got %+v", r)
			}
		}
		status := f.Status()
		if len(status) != 20 || status[0].Backend != "n0" || status[0].URL != "http://10.0.0.0/n0" || status[0].Scrapes != uint64(len(f.asked["n0"])) ||
			status[0].Failures != 0 || status[0].Took != 50*time.Millisecond || status[0].Samples != 2 || status[0].Values[0] != 0.5 || status[0].Bytes != 14 {
			t.Errorf("got %d, %+v", len(status), status[0])
		}
		status[0].Values[0] = -1
		if f.Status()[0].Values[0] != 0.5 {
			t.Error("Status does not return a copy")
		}
	})
}

// TestMeanAndMoment is why there are two figures: a step is seen at once in Util, and slowly in Load.
func TestMeanAndMoment(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, nil)
		f.page("n0", "m 0.2\nlevel 1\n")
		f.Set(backends("n%d", 1))
		f.run(t)
		time.Sleep(10 * time.Minute)
		f.page("n0", "m 0.8\nlevel 7\n")
		time.Sleep(150 * time.Second)
		synctest.Wait()
		r := f.of("n0")[len(f.of("n0"))-1]
		if r.Util.Value != 0.8 || r.Level.Value != 7 || math.Abs(r.Load.Value-0.5) > 0.04 {
			t.Errorf("half a window after the step: got %+v", r)
		}
		if cover := r.At - r.Since; cover < int64(DefaultWindow-time.Millisecond) || cover > int64(DefaultWindow) {
			t.Errorf("the mean covers %v", time.Duration(cover))
		}
		first := f.of("n0")[1]
		if first.Since < f.of("n0")[0].At {
			t.Errorf("the second mean begins at %d, before the first reading at %d", first.Since, f.of("n0")[0].At)
		}
		time.Sleep(170 * time.Second)
		synctest.Wait()
		if r := f.of("n0")[len(f.of("n0"))-1]; math.Abs(r.Load.Value-0.8) > 1e-9 {
			t.Errorf("a window after the step: got %+v", r)
		}
	})
}

func TestSetWhileRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(o *Options) { o.Figures = []FigureOptions{{Metric: "rate(m)"}} })
		f.rand = func(d time.Duration) time.Duration { return d / 2 } // first after 7.5 s, then every 15 s
		for _, name := range []string{"n0", "n1"} {
			f.page(name, "m 1\nlevel 1\n")
		}
		f.run(t)
		time.Sleep(time.Minute)
		if s := f.Status(); len(s) != 0 {
			t.Errorf("got %+v without backends", s)
		}
		both := backends("n%d", 3) // n2 hangs
		f.Set(both)
		time.Sleep(17 * time.Second)
		synctest.Wait()
		if n := f.openNow(); n != 1 {
			t.Fatalf("%d scrapes are running, want that of n2", n)
		}
		both[0].Labels = map[string]string{"version": "2"} // is not in the URL
		f.Set([]balancer.Backend{both[0], {Name: "n1", Address: "10.9.9.9:1883"}})
		synctest.Wait()
		if f.openNow() != 0 {
			t.Errorf("the scrape of a backend that left goes on")
		}
		if s := f.Status(); len(s) != 2 || s[0].Scrapes == 0 || s[1].Scrapes != 0 || s[1].URL != "http://10.9.9.9/n1" {
			t.Errorf("got %+v", s)
		}
		kept, moved, left := len(f.of("n0")), len(f.of("n1")), len(f.of("n2"))
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if r := f.of("n0"); len(r) == kept || r[kept].Util.At == 0 {
			t.Errorf("n0 does not go on with its rate: %+v", r)
		}
		if r := f.of("n1"); len(r) == moved || r[moved].Util.At != 0 {
			t.Errorf("n1, which has moved, goes on with its rate: %+v", r)
		}
		if r := f.of("n2"); len(r) != left {
			t.Errorf("got %+v of a backend that left", r)
		}
	})
}

// TestTroubleStaysItsOwn: backends that hang do not delay the others, and nobody is asked twice at a time.
func TestTroubleStaysItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(o *Options) { o.Concurrency = 8 })
		good := backends("good%02d", 20)
		for _, b := range good {
			f.page(b.Name, "m 0.5\nlevel 1\n")
		}
		f.Set(append(backends("bad%03d", 100), good...))
		f.run(t)
		time.Sleep(5 * time.Minute) // all have been tried by now: 100 x 10 s in 8 places
		began := time.Since(f.began)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		r := f.of("bad000")[0]
		f.lock.Lock()
		defer f.lock.Unlock()
		for _, b := range good {
			times := slices.DeleteFunc(f.asked[b.Name], func(d time.Duration) bool { return d < began })
			for i := 1; i < len(times); i++ {
				if gap := times[i] - times[i-1]; gap > 16*time.Second {
					t.Errorf("%s had to wait for %v", b.Name, gap)
				}
			}
			if len(times) < 38 {
				t.Errorf("%s was asked %d times", b.Name, len(times))
			}
		}
		for _, b := range backends("bad%03d", 100) {
			if len(f.asked[b.Name]) < 2 {
				t.Errorf("%s was asked %d times", b.Name, len(f.asked[b.Name]))
			}
		}
		if f.most > 8 {
			t.Errorf("%d scrapes at a time", f.most)
		}
		if text(r.Err) != "no complete answer within 10s: context deadline exceeded" || r.At == 0 || r.Load.At+r.Util.At+r.Level.At != 0 {
			t.Errorf("got %+v", r)
		}
	})
}

// TestScrapesDoNotOverlap: the interval may come out shorter than the timeout.
func TestScrapesDoNotOverlap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(o *Options) { o.Timeout = DefaultInterval })
		f.Set(backends("n%d", 5))
		f.run(t)
		time.Sleep(20 * time.Minute)
		if s := f.Status()[0]; s.Failures < 70 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestFailureAndRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := newFake(t, func(o *Options) {
			o.URL = "http://{label.ip}/{name}"
			o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
		})
		f.page("n0", "m 0.5\nlevel 1\n")
		good := balancer.Backend{Name: "n0", Address: "10.0.0.1:1883", Labels: map[string]string{"ip": "10.0.0.1"}}
		f.Set([]balancer.Backend{good, {Name: "n1", Address: "10.0.0.2:1883"}})
		f.run(t)
		time.Sleep(20 * time.Second)
		f.page("n0", "level 5\n") // the load is missing, the level is not
		time.Sleep(50 * time.Second)
		synctest.Wait()
		last := f.of("n0")[len(f.of("n0"))-1]
		if text(last.Err) != "the metric m is not among the 1 samples of the page" || last.Level.Value != 5 || last.Level.At != last.At || last.Load.At != 0 {
			t.Errorf("got %+v", last)
		}
		if s := f.Status()[0]; s.Failures == 0 || s.Failures >= s.Scrapes || text(s.Reading.Err) == "" || !math.IsNaN(s.Values[0]) {
			t.Errorf("got %+v", s)
		}
		if r := f.of("n1")[0]; text(r.Err) != `the backend has no label "ip", which the url needs for {label.ip}` || r.At == 0 {
			t.Errorf("got %+v", r)
		}
		f.page("n0", "m 0.5\nlevel 1\n")
		time.Sleep(20 * time.Second)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		slices.Sort(lines)
		want := []string{
			`level=INFO msg="load figures of a backend can be read again" backend=n0 url=http://10.0.0.1/n0`,
			`level=WARN msg="load figures of a backend cannot be read" backend=n0 url=http://10.0.0.1/n0 error="the metric m is not among the 1 samples of the page"`,
			`level=WARN msg="load figures of a backend cannot be read" backend=n1 url="" error="the backend has no label \"ip\", which the url needs for {label.ip}"`,
		}
		if !slices.Equal(lines, want) {
			t.Errorf("got\n%s", log.String())
		}
	})
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(o *Options) { o.URL = "http://{label.ip}/{name}" })
		f.run(t)
		var users sync.WaitGroup
		for i := range 4 {
			users.Go(func() {
				for range 200 {
					set := backends("n%d", 5+i)
					for j := range set {
						if (i+j)%2 == 0 {
							set[j].Labels = map[string]string{"ip": "10.0.0.1"}
						}
					}
					f.Set(set)
					set[0].Name = "gone" // the scraper has its own copy
					if s := f.Status(); len(s) > 0 && len(s[0].Values) > 0 {
						s[0].Values[0] = -1
					}
					time.Sleep(time.Second)
				}
			})
		}
		users.Wait()
	})
}
