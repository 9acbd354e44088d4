package discovery_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/discovery"
)

// secrets writes files with credentials.
func secrets(t *testing.T, parts ...string) []string {
	t.Helper()
	dir := t.TempDir()
	paths := []string{"", "", ""}
	for i, part := range parts {
		paths[i] = filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(paths[i], []byte(part+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// read runs an S3 source against a bucket, quickly.
func read(t *testing.T, b *bucket, s *discovery.S3) *running {
	t.Helper()
	j := newJournal()
	files := secrets(t, "key-id", "secret")
	s.Bucket, s.Endpoint, s.AccessKeyFile, s.SecretKeyFile = bucketName, b.URL, files[0], files[1]
	s.Interval, s.Log, s.Observer = 5*time.Millisecond, j.logger(), j
	return run(t, s, j)
}

// The nodes that HiveMQ has written are the backends, with the port for clients.
func TestS3Nodes(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("hivemq/cluster/nodes/Ab3dE", node("Ab3dE", "10.0.0.4", time.Minute))
	b.put("hivemq/cluster/nodes/Zz9yX", node("Zz9yX", "10.0.0.3", 0))
	b.put("hivemq/cluster/nodes/", "")                            // a folder, as consoles make them
	b.put("hivemq/cluster/other/Old", node("Old", "10.0.0.9", 0)) // another cluster
	r := read(t, b, &discovery.S3{Prefix: "hivemq/cluster/nodes/"})
	set := r.set(patience)
	want(t, show(set), "10.0.0.3=10.0.0.3:1883 10.0.0.4=10.0.0.4:1883")
	if set[1].Labels["cluster_id"] != "Ab3dE" || set[1].Host != "10.0.0.4" {
		t.Errorf("got %+v", set[1])
	}
	r.until("a report without complaints", func() bool { last, _, _ := r.heard(); return last == "ok 2 left 0" })
	b.remove("hivemq/cluster/nodes/Zz9yX")
	want(t, r.next(patience), "10.0.0.4=10.0.0.4:1883")
	b.put("hivemq/cluster/nodes/Ab3dE", node("Ab3dE", "10.0.0.4", 0)) // as every three minutes
	r.confirms(3)
	r.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.keys) != 1 || !b.keys["key-id"] {
		t.Errorf("got requests signed with %v, want key-id", b.keys)
	}
}

// Host names are resolved; a broker that has come back under a new id is the same backend.
func TestS3HostNames(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	dns := newResolver(map[string][]string{"hivemq-0.hivemq": {"10.0.0.1"}, "hivemq-1.hivemq": {"10.0.0.2"}})
	b.put("n-a", node("a", "hivemq-0.hivemq", time.Minute))
	b.put("n-b", node("b", "hivemq-1.hivemq", time.Minute))
	r := read(t, b, &discovery.S3{Prefix: "n-", Port: 1884, Region: "eu-central-1", Lookup: dns.lookup})
	want(t, r.next(patience), "hivemq-0.hivemq=10.0.0.1:1884 hivemq-1.hivemq=10.0.0.2:1884")
	dns.set("hivemq-1.hivemq", "10.0.0.3")
	b.put("n-c", node("c", "hivemq-1.hivemq", time.Second))
	set := r.set(patience)
	if got := show(set); got != "hivemq-0.hivemq=10.0.0.1:1884 hivemq-1.hivemq=10.0.0.3:1884" {
		set = r.set(patience) // the new address and the new id may have come one after the other
		want(t, show(set), "hivemq-0.hivemq=10.0.0.1:1884 hivemq-1.hivemq=10.0.0.3:1884")
	}
	if id := set[1].Labels["cluster_id"]; id != "c" {
		set = r.set(patience)
		want(t, set[1].Labels["cluster_id"], "c")
	}
	r.end()
}

// A listing has several pages, and the objects are read eight at a time.
func TestS3Pages(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.page = 7
	for i := range 100 {
		b.put(fmt.Sprintf("n/%03d", i), node(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d", i+1), 0))
	}
	eight := make(chan struct{})
	b.eight = eight
	b.instead(func(_ http.ResponseWriter, _ *http.Request, key string) bool {
		if key != "" {
			<-eight
		}
		return false
	})
	r := read(t, b, &discovery.S3{Prefix: "n/"})
	if n := len(r.set(patience)); n != 100 {
		t.Errorf("got %d backends, want 100", n)
	}
	r.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lists < 15 || b.most != 8 {
		t.Errorf("got %d pages and %d objects read at once, want at least 15 and 8", b.lists, b.most)
	}
}

// An object that is the same is not read again.
func TestS3ReadsWhatIsNew(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("a", node("a", "10.0.0.1", 0))
	b.put("b", node("b", "10.0.0.2", 0))
	b.put("c", "no node")
	r := read(t, b, &discovery.S3{})
	r.next(patience)
	r.confirms(5)
	b.put("b", node("b", "10.0.0.22", 0))
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883 10.0.0.22=10.0.0.22:1883")
	r.confirms(5)
	r.end()
	if b.read("a") != 1 || b.read("b") != 2 || b.read("c") != 1 {
		t.Errorf("got %d, %d and %d readings, want 1, 2 and 1", b.read("a"), b.read("b"), b.read("c"))
	}
}

// What has expired does not count, unless nothing else is left.
func TestS3Expiration(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("a", node("a", "10.0.0.1", 7*time.Minute))
	b.put("b", node("b", "10.0.0.2", 5*time.Minute))
	b.put("c", node("c", "10.0.0.3", -time.Hour)) // by a clock that runs ahead
	r := read(t, b, &discovery.S3{})
	want(t, r.next(patience), "10.0.0.2=10.0.0.2:1883 10.0.0.3=10.0.0.3:1883")
	r.until("a report without complaints", func() bool { last, _, _ := r.heard(); return last == "ok 2 left 0" })
	b.remove("b", "c")
	r.fails(2)
	r.end()
	r.logs("no backend that can be used: 1 objects in s3://discovery/ have expired, the youngest was written at ", "are the brokers writing, and are all clocks right?")

	r = read(t, b, &discovery.S3{Expiration: -1})
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
	r.end()
	r = read(t, b, &discovery.S3{Expiration: 8 * time.Minute})
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
	r.end()
}

// Objects that describe no node are left out, and told with their key.
func TestS3Malformed(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("good", node("good", "10.0.0.1", 0))
	b.put("broken", "NHx8fHwxNzAwMDAw\n")
	b.put("empty", "")
	b.put("large", strings.Repeat("A", 5000))
	b.put("bad host", node("x", "not a host", 0))
	b.put("local", node("x", "0.0.0.0", 0))
	r := read(t, b, &discovery.S3{})
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
	r.until("the report", func() bool { last, _, _ := r.heard(); return last == "ok 1 left 5" })
	b.remove("good")
	r.fails(1)
	r.end()
	r.logs(`where=broken error="not Base64: it contains a line break"`, `where=empty error="the object is empty"`,
		`where=large error="5000 bytes are too many for the description of a node"`, `backend="not a host" where="bad host" error="its name contains ' '`,
		`where=local error="0.0.0.0 is not the address of a host"`)
	if b.read("large") > 0 {
		t.Error("got the large object read")
	}
}

// Whatever goes wrong with the server, the last good set stays, until there is a good answer again.
func TestS3Faults(t *testing.T) {
	t.Parallel()
	status := func(status int, code string) func(http.ResponseWriter, *http.Request, string) bool {
		return func(w http.ResponseWriter, _ *http.Request, _ string) bool { refuse(w, status, code); return true }
	}
	listing := func(text string) func(http.ResponseWriter, *http.Request, string) bool {
		return func(w http.ResponseWriter, _ *http.Request, key string) bool {
			if key == "" {
				fmt.Fprint(w, text)
			}
			return key == ""
		}
	}
	for name, c := range map[string]struct {
		fault func(w http.ResponseWriter, r *http.Request, key string) bool
		says  string
	}{
		"403":           {status(403, "AccessDenied"), "the credentials need s3:ListBucket for the bucket and s3:GetObject"},
		"404":           {status(404, "NoSuchBucket"), "check bucket, endpoint and region"},
		"wrong key":     {status(403, "InvalidAccessKeyId"), "check the credentials"},
		"wrong time":    {status(403, "RequestTimeTooSkewed"), "set the clock of this machine"},
		"500":           {status(500, "InternalError"), "InternalError it is"},
		"503":           {status(503, "SlowDown"), "list s3://discovery/: SlowDown it is"},
		"empty listing": {listing(`<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`), "no objects in s3://discovery/; the prefix must be the file-prefix"},
		"half listing":  {listing(`<ListBucketResult><Contents><Key>a</Key><Si`), "list s3://discovery/: XML syntax error"},
		"no XML":        {listing(`{"hello": "world"}`), "list s3://discovery/: "},
		"no token":      {listing(`<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>`), "continuation token"},
		"endless":       {listing(`<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken></ListBucketResult>`), "the listing has more than 20 pages"},
		"huge listing": {func(w http.ResponseWriter, r *http.Request, _ string) bool {
			piece := []byte(strings.Repeat("<Contents><Key>k</Key></Contents>", 1000))
			fmt.Fprint(w, "<ListBucketResult>")
			for r.Context().Err() == nil { // until the reader has had enough
				if _, err := w.Write(piece); err != nil {
					break
				}
			}
			return true
		}, "the response has more than 1048576 bytes"},
		"too many objects": {func(w http.ResponseWriter, r *http.Request, _ string) bool {
			fmt.Fprintf(w, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>%s</ListBucketResult>",
				r.URL.Query().Get("continuation-token")+"x", strings.Repeat("<Contents><Key>k</Key></Contents>", 250))
			return true
		}, "more than 1000 objects"},
		"silence": {func(_ http.ResponseWriter, r *http.Request, _ string) bool { <-r.Context().Done(); return true }, "no answer in time"},
		"slow body": {func(w http.ResponseWriter, r *http.Request, _ string) bool {
			fmt.Fprint(w, "<ListBucketResult>")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return true
		}, "list s3://discovery/: "},
		"connection closed": {func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
			return true
		}, "list s3://discovery/: "},
		"redirect": {func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			w.Header().Set("Location", "http://127.0.0.1:1/")
			refuse(w, http.StatusMovedPermanently, "PermanentRedirect")
			return true
		}, "check the region"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBucket(t)
			b.put("a", node("a", "10.0.0.1", 0))
			s := &discovery.S3{Region: "eu-central-1", Timeout: patience}
			if name == "silence" || name == "slow body" {
				s.Timeout = 300 * time.Millisecond
			}
			r := read(t, b, s)
			want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
			b.instead(c.fault)
			r.fails(2)
			b.put("a", node("a", "10.0.0.2", 0))
			b.instead(nil)
			want(t, r.next(patience), "10.0.0.2=10.0.0.2:1883")
			r.end()
			r.logs(`msg="discovery failed; the last known backends stay" source=s3 backends=1`, c.says)
		})
	}
}

// An object that cannot be read counts as it was; one that is gone is gone. The others are read all the same.
func TestS3ObjectFaults(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("a", node("a", "10.0.0.1", 0))
	b.put("b", node("b", "10.0.0.2", 0))
	only := func(which string, f func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request, string) bool {
		return func(w http.ResponseWriter, _ *http.Request, key string) bool {
			if key == which {
				f(w)
			}
			return key == which
		}
	}
	denied := func(w http.ResponseWriter) { refuse(w, 403, "AccessDenied") }
	b.instead(only("b", denied)) // from the beginning: nothing is known of it
	r := read(t, b, &discovery.S3{})
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
	r.until("the report", func() bool { last, _, _ := r.heard(); return last == "ok 1 left 1" })
	b.instead(nil)
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883 10.0.0.2=10.0.0.2:1883")

	b.instead(only("b", denied))
	b.put("a", node("a", "10.0.0.11", 0))
	b.put("b", node("b", "10.0.0.22", 0))
	want(t, r.next(patience), "10.0.0.11=10.0.0.11:1883 10.0.0.2=10.0.0.2:1883")
	r.until("the report", func() bool { last, _, _ := r.heard(); return last == "ok 2 left 1" })

	b.instead(only("b", func(w http.ResponseWriter) { // less than it says
		w.Header().Set("ETag", etag("x"))
		w.Header().Set("Content-Length", "500")
		fmt.Fprint(w, "NHx8fHwx")
	}))
	r.confirms(2)
	b.instead(only("b", func(w http.ResponseWriter) { refuse(w, 404, "NoSuchKey") }))
	want(t, r.next(patience), "10.0.0.11=10.0.0.11:1883")
	b.instead(nil)
	want(t, r.next(patience), "10.0.0.11=10.0.0.11:1883 10.0.0.22=10.0.0.22:1883")
	b.instead(func(w http.ResponseWriter, _ *http.Request, key string) bool {
		if key != "" {
			refuse(w, 404, "NoSuchKey")
		}
		return key != ""
	})
	b.put("a", node("a", "10.0.0.12", 0))
	b.put("b", node("b", "10.0.0.23", 0))
	r.fails(1)
	r.end()
	r.logs(`msg="a backend is left out" source=s3 backend="" where=b error="read the object: AccessDenied it is`,
		`msg="a backend keeps its last address" source=s3 backend=10.0.0.2 where=b error="read the object: `, "2 objects in s3://discovery/ have gone while they were read")
}

// The end does not wait for a server that does not answer.
func TestS3EndWhileReading(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	asked := make(chan struct{}, 100)
	b.instead(func(_ http.ResponseWriter, r *http.Request, _ string) bool {
		asked <- struct{}{}
		<-r.Context().Done()
		return true
	})
	r := read(t, b, &discovery.S3{})
	<-asked
	r.end()
	if last, _, _ := r.heard(); last != "" {
		t.Errorf("got the report %q, want none about a reading that was given up", last)
	}
}
