package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/mqttlb/mqttlb/balancer"
)

// served is the record of a connection that went well.
func served() Record {
	return Record{
		Listener: "mqtt", Remote: netip.MustParseAddrPort("192.0.2.1:56324"), ClientID: "sensor-1", Version: 5,
		Target: Target{
			Backend: &Backend{Cluster: "hivemq", Name: "hivemq-0"},
			Reason:  balancer.Reason{Strategy: "client-hash", Cause: balancer.Spilled, Other: "hivemq-1"},
		},
		UniqueID: "0123456789abcdef01234567",
		Attempts: 2, Connack: 0, Lasted: 3*time.Second + 1234567*time.Nanosecond,
		Bytes: [2]uint64{1000, 2000}, Packets: [2]uint64{10, 20}, End: EndClient,
	}
}

// turnedAway is the record of a connection whose first bytes were not MQTT.
func turnedAway(why Refusal) Record {
	return Record{
		Listener: "mqtt", Remote: netip.MustParseAddrPort("[2001:db8::1]:1"), Connack: -1, Lasted: time.Millisecond,
		Bytes: [2]uint64{18, 0}, End: EndProtocol, Refusal: why,
	}
}

// logged returns what an access log writes about records, without the time.
func logged(ids IDMode, json bool, records ...Record) string {
	var b bytes.Buffer
	a := NewAccessLog(slog.New(handler(&b, json)), ids)
	for _, r := range records {
		a.Ended(r)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a.Run(ctx)
	return b.String()
}

func handler(w io.Writer, json bool) slog.Handler {
	o := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	if json {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

func TestAccessLogLines(t *testing.T) {
	t.Parallel()
	lost := served()
	lost.Connack, lost.UniqueID, lost.End, lost.Packets, lost.Attempts, lost.Version = -1, "", EndBackend, [2]uint64{1, 0}, 1, 3
	lost.Target.Reason = balancer.Reason{Strategy: "round-robin", Cause: balancer.Turn}
	unplaced := served()
	unplaced.Target, unplaced.UniqueID, unplaced.Attempts, unplaced.Connack = Target{}, "", 0, -1
	unplaced.End, unplaced.Refusal, unplaced.Bytes, unplaced.Packets = EndDial, RefusedNoBackend, [2]uint64{22, 0}, [2]uint64{1, 0}
	stalled := served()
	stalled.Connack, stalled.End, stalled.Refusal = -1, EndTimeout, RefusedFirstByte
	evicted := served()
	evicted.UniqueID, evicted.Attempts, evicted.End, evicted.Moment = "", 1, EndEvicted, MomentQuiet
	for _, c := range []struct {
		name       string
		record     Record
		text, json string
	}{
		{
			"served", served(),
			`level=INFO msg="connection ended" listener=mqtt cluster=hivemq client=sensor-1 version=5 remote=192.0.2.1:56324 backend=hivemq-0 strategy=client-hash reason="spilled: hivemq-1 over bounded load" unique_id=0123456789abcdef01234567 attempts=2 connack=0 seconds=3.001235 bytes_up=1000 bytes_down=2000 packets_up=10 packets_down=20 end=client`,
			`{"level":"INFO","msg":"connection ended","listener":"mqtt","cluster":"hivemq","client":"sensor-1","version":5,"remote":"192.0.2.1:56324","backend":"hivemq-0","strategy":"client-hash","reason":"spilled: hivemq-1 over bounded load","unique_id":"0123456789abcdef01234567","attempts":2,"connack":0,"seconds":3.001235,"bytes_up":1000,"bytes_down":2000,"packets_up":10,"packets_down":20,"end":"client"}`,
		},
		{
			"lost before CONNACK", lost,
			`level=INFO msg="connection ended" listener=mqtt cluster=hivemq client=sensor-1 version=3 remote=192.0.2.1:56324 backend=hivemq-0 strategy=round-robin reason="next in turn" attempts=1 seconds=3.001235 bytes_up=1000 bytes_down=2000 packets_up=1 packets_down=0 end=backend`,
			`{"level":"INFO","msg":"connection ended","listener":"mqtt","cluster":"hivemq","client":"sensor-1","version":3,"remote":"192.0.2.1:56324","backend":"hivemq-0","strategy":"round-robin","reason":"next in turn","attempts":1,"seconds":3.001235,"bytes_up":1000,"bytes_down":2000,"packets_up":1,"packets_down":0,"end":"backend"}`,
		},
		{
			"not MQTT", turnedAway("http"),
			`level=INFO msg="connection ended" listener=mqtt remote=[2001:db8::1]:1 attempts=0 seconds=0.001 bytes_up=18 bytes_down=0 packets_up=0 packets_down=0 end=protocol refused=http`,
			`{"level":"INFO","msg":"connection ended","listener":"mqtt","remote":"[2001:db8::1]:1","attempts":0,"seconds":0.001,"bytes_up":18,"bytes_down":0,"packets_up":0,"packets_down":0,"end":"protocol","refused":"http"}`,
		},
		{
			"nobody there", unplaced,
			`level=INFO msg="connection ended" listener=mqtt client=sensor-1 version=5 remote=192.0.2.1:56324 attempts=0 seconds=3.001235 bytes_up=22 bytes_down=0 packets_up=1 packets_down=0 end=dial refused=no_backend`,
			`{"level":"INFO","msg":"connection ended","listener":"mqtt","client":"sensor-1","version":5,"remote":"192.0.2.1:56324","attempts":0,"seconds":3.001235,"bytes_up":22,"bytes_down":0,"packets_up":1,"packets_down":0,"end":"dial","refused":"no_backend"}`,
		},
		{
			"silent broker", stalled,
			`level=INFO msg="connection ended" listener=mqtt cluster=hivemq client=sensor-1 version=5 remote=192.0.2.1:56324 backend=hivemq-0 strategy=client-hash reason="spilled: hivemq-1 over bounded load" unique_id=0123456789abcdef01234567 attempts=2 seconds=3.001235 bytes_up=1000 bytes_down=2000 packets_up=10 packets_down=20 end=timeout refused=first_byte_timeout`,
			`{"level":"INFO","msg":"connection ended","listener":"mqtt","cluster":"hivemq","client":"sensor-1","version":5,"remote":"192.0.2.1:56324","backend":"hivemq-0","strategy":"client-hash","reason":"spilled: hivemq-1 over bounded load","unique_id":"0123456789abcdef01234567","attempts":2,"seconds":3.001235,"bytes_up":1000,"bytes_down":2000,"packets_up":10,"packets_down":20,"end":"timeout","refused":"first_byte_timeout"}`,
		},
		{
			"evicted", evicted,
			`level=INFO msg="connection ended" listener=mqtt cluster=hivemq client=sensor-1 version=5 remote=192.0.2.1:56324 backend=hivemq-0 strategy=client-hash reason="spilled: hivemq-1 over bounded load" attempts=1 connack=0 seconds=3.001235 bytes_up=1000 bytes_down=2000 packets_up=10 packets_down=20 end=evicted moment=quiet`,
			`{"level":"INFO","msg":"connection ended","listener":"mqtt","cluster":"hivemq","client":"sensor-1","version":5,"remote":"192.0.2.1:56324","backend":"hivemq-0","strategy":"client-hash","reason":"spilled: hivemq-1 over bounded load","attempts":1,"connack":0,"seconds":3.001235,"bytes_up":1000,"bytes_down":2000,"packets_up":10,"packets_down":20,"end":"evicted","moment":"quiet"}`,
		},
	} {
		if got := logged(FullID, false, c.record); got != c.text+"\n" {
			t.Errorf("%s, text:\ngot  %swant %s", c.name, got, c.text)
		}
		if got := logged(FullID, true, c.record); got != c.json+"\n" {
			t.Errorf("%s, JSON:\ngot  %swant %s", c.name, got, c.json)
		}
	}
}

// Every way to end and every reason to refuse has a name of its own.
func TestEndsAndRefusals(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for e := EndNone; e <= EndProbe; e++ {
		if name := e.String(); name == "unknown" || seen[name] {
			t.Errorf("got %q for end %d, want a name of its own", name, e)
		}
		seen[e.String()] = true
	}
	if got := (EndProbe + 1).String(); got != "unknown" {
		t.Errorf("got %q for an end that does not exist, want unknown", got)
	}
	clear(seen)
	for o := Served; o <= TLSFailed; o++ {
		if name := o.String(); name == "unknown" || seen[name] {
			t.Errorf("got %q for outcome %d, want a name of its own", name, o)
		}
		seen[o.String()] = true
	}
	if got := (TLSFailed + 1).String(); got != "unknown" {
		t.Errorf("got %q for an outcome that does not exist, want unknown", got)
	}
	clear(seen)
	for m := MomentQuiet; m <= MomentForced; m++ {
		if name := m.String(); name == "unknown" || seen[name] {
			t.Errorf("got %q for moment %d, want a name of its own", name, m)
		}
		seen[m.String()] = true
	}
	clear(seen)
	for k := KeptGone; k <= KeptBusy; k++ {
		if name := k.String(); name == "unknown" || seen[name] {
			t.Errorf("got %q for reason %d to keep, want a name of its own", name, k)
		}
		seen[k.String()] = true
	}
}

// Client ids can be personal data.
func TestIDModes(t *testing.T) {
	t.Parallel()
	record, anonymous, other := served(), served(), served()
	record.ClientID, anonymous.ClientID, other.ClientID = "patient-4711", "", "patient-4712"
	if got := logged(FullID, false, record); !strings.Contains(got, " client=patient-4711 version=5 ") {
		t.Errorf("full: got %s", got)
	}
	if got := logged(FullID, false, anonymous); !strings.Contains(got, ` client="" version=5 `) {
		t.Errorf("full, without an id: got %s", got)
	}
	if got := logged(NoID, false, record); strings.Contains(got, "patient") || strings.Contains(got, "client=") {
		t.Errorf("off: got %s", got)
	}
	hash := func(r Record) string {
		got := logged(HashedID, false, r)
		_, after, _ := strings.Cut(got, " client=")
		hash, _, _ := strings.Cut(after, " ")
		if strings.Contains(got, "patient") || hash == "" || strings.Trim(hash, "0123456789abcdef") != "" {
			t.Errorf("hash: got %s", got)
		}
		return hash
	}
	if a, again, b := hash(record), hash(record), hash(other); a != again || a == b {
		t.Errorf("got hashes %s, %s and %s, want the same for the same id only", a, again, b)
	}
}

// A client id is whatever a stranger likes it to be. It never makes a second line, reaches a terminal as a
// control sequence, or fills the disk.
func TestHostileIDs(t *testing.T) {
	t.Parallel()
	for _, id := range []string{
		"a\nlevel=ERROR msg=forged", "\r\n\r\n", "\x1b[2J\x1b[31mred", "\x00", "\xff\xfe\xc3", "a\xc3", `" end=forged`, `\`, "a=b c",
		"\u2028\u2029", "\t", "\ufeff", strings.Repeat("x", 65535), strings.Repeat("é", 100), strings.Repeat("\xff", 1000),
	} {
		r := served()
		r.ClientID = id
		line := logged(FullID, false, r)
		if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\r\x1b\x00\t\u2028\u2029\u009b") || !utf8.ValidString(line) || len(line) > 1200 {
			t.Errorf("client %.40q, text: got %q", id, line)
		}
		if !strings.HasSuffix(line, " end=client\n") || strings.Contains(line, " end=forged") && !strings.Contains(line, `\" end=forged`) {
			t.Errorf("client %.40q, text: got %q, want the id inside its quotes", id, line)
		}
		line = logged(FullID, true, r)
		var fields struct{ Client, End string }
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("client %.40q, JSON: got %q: %v", id, line, err)
		}
		if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\r\x1b\x00\t\u2028\u2029") || !utf8.ValidString(line) || len(line) > 1200 {
			t.Errorf("client %.40q, JSON: got %q", id, line)
		}
		if len(id) <= maxLoggedID && utf8.ValidString(id) && fields.Client != id || fields.End != "client" {
			t.Errorf("client %.40q, JSON: got %q, want it unchanged", id, fields.Client)
		}
		// Bytes that are not UTF-8 can still be told from each other.
		if len(id) <= maxLoggedID && !utf8.ValidString(id) && fields.Client != strconv.Quote(id) {
			t.Errorf("client %.40q, JSON: got %q, want it quoted", id, fields.Client)
		}
	}
}

// An id is cut at 128 bytes, not before.
func TestIDsAreCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ id, want string }{
		{strings.Repeat("x", 127), strings.Repeat("x", 127)},
		{strings.Repeat("x", 128), strings.Repeat("x", 128)},
		{strings.Repeat("x", 129), strings.Repeat("x", 128)},
		{strings.Repeat("x", 5000), strings.Repeat("x", 128)},
	} {
		r := served()
		r.ClientID = c.id
		if got, want := logged(FullID, false, r), " client="+c.want+" version"; !strings.Contains(got, want) {
			t.Errorf("%d bytes: got %s, want %s", len(c.id), got, want)
		}
	}
}

// A writer that does not write holds nobody up: what does not fit into the queue is counted.
func TestQueueThatIsFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &stuckWriter{release: make(chan struct{})}
		a := NewAccessLog(slog.New(handler(w, false)), FullID)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); a.Run(ctx) }()
		a.Ended(served())
		synctest.Wait() // now Run is stuck with one record in hand
		begin := time.Now()
		const more = 300
		for range accessQueue + more {
			a.Ended(served())
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("got Ended held up for %v, want not at all", took)
		}
		if got := a.Dropped(); got != more {
			t.Errorf("got %d records dropped, want %d", got, more)
		}
		close(w.release)
		cancel()
		<-ended
		if got := strings.Count(w.text.String(), "\n"); got != accessQueue+1 {
			t.Errorf("got %d lines in the end, want %d", got, accessQueue+1)
		}
	})
}

// stuckWriter writes nothing before release is closed.
type stuckWriter struct {
	release chan struct{}
	text    bytes.Buffer
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	<-w.release
	return w.text.Write(b)
}

// Run writes what is in the queue when its context ends, and returns.
func TestAccessLogDrains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		a := NewAccessLog(slog.New(handler(&b, false)), FullID)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { a.Run(ctx) })
		for range 100 {
			a.Ended(served())
		}
		cancel()
		running.Wait()
		if got := strings.Count(b.String(), "\n"); got != 100 {
			t.Errorf("got %d lines, want 100", got)
		}
	})
}

// Ten lines a second about refusals of one reason; the rest is summed up. Other reasons, and refusals of
// clients that had a place, have their own lines.
func TestRefusalsAreRateLimited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		a := NewAccessLog(slog.New(handler(&b, false)), FullID)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go a.Run(ctx)
		count := func(records ...Record) (lines map[string]int, summaries []string) {
			for _, r := range records {
				a.Ended(r)
			}
			synctest.Wait()
			lines = make(map[string]int)
			for line := range strings.Lines(b.String()) {
				_, refused, _ := strings.Cut(strings.TrimSpace(line), " refused=")
				if strings.Contains(line, "connection ended") {
					lines[refused]++
				} else {
					summaries = append(summaries, strings.TrimSpace(line))
				}
			}
			b.Reset()
			return lines, summaries
		}
		var many []Record
		stalled := served()
		stalled.Refusal = RefusedFirstByte
		for range 25 {
			many = append(many, turnedAway("http"), turnedAway(RefusedConnectTimeout), stalled, served())
		}
		lines, summaries := count(many...)
		if want := "map[:25 connect_timeout:10 first_byte_timeout:25 http:10]"; fmt.Sprint(lines) != want || summaries != nil {
			t.Errorf("in the first second: got %v and %q, want %s", lines, summaries, want)
		}
		time.Sleep(999 * time.Millisecond)
		if lines, summaries = count(many[0]); len(lines)+len(summaries) > 0 {
			t.Errorf("still in the first second: got %v and %q, want nothing", lines, summaries)
		}
		time.Sleep(time.Millisecond)
		lines, summaries = count(many[0], many[0])
		if want := `["level=INFO msg=\"refused connections not logged one by one\" refused=http count=16"]`; fmt.Sprintf("%q", summaries) != want || fmt.Sprint(lines) != "map[http:2]" {
			t.Errorf("in the second second: got %v and %q, want two lines about http and %s", lines, summaries, want)
		}
		time.Sleep(time.Hour)
		lines, summaries = count(many...)
		if want := `["level=INFO msg=\"refused connections not logged one by one\" refused=connect_timeout count=15"]`; fmt.Sprintf("%q", summaries) != want || lines["http"] != 10 {
			t.Errorf("an hour later: got %v and %q, want ten lines again and %s", lines, summaries, want)
		}
	})
}

// TestContestsAreRateLimited, and the client id appears as the log's ids do.
func TestContestsAreRateLimited(t *testing.T) {
	t.Parallel()
	for ids, want := range map[IDMode]string{FullID: ` client="two\nlines"`, HashedID: " client=", NoID: ""} {
		synctest.Test(t, func(t *testing.T) {
			var b bytes.Buffer
			a := NewAccessLog(slog.New(handler(&b, false)), ids)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go a.Run(ctx)
			for range 3 {
				for range 25 {
					a.Contested(Contest{Listener: "mqtt", ClientID: "two\nlines", Remote: netip.MustParseAddrPort("10.0.0.1:1")})
				}
				synctest.Wait()
				time.Sleep(time.Second)
			}
			lines := strings.Split(strings.TrimSpace(b.String()), "\n")
			if len(lines) != 3*refusedPerSpell {
				t.Errorf("got %d lines in three seconds, want %d", len(lines), 3*refusedPerSpell)
			}
			if !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], want) || ids != FullID && strings.Contains(lines[0], "lines") {
				t.Errorf("got %s, want a warning with%s", lines[0], want)
			}
		})
	}
}
