//go:build linux

package e2e

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bucket is as much of an S3 server as somebody needs who reads HiveMQ's discovery objects: listing and
// getting, with signed requests. It hands the listing out in pages of two.
type bucket struct {
	address, keys string // keys is a folder with the credentials

	mu      sync.Mutex
	objects map[string]string
	expired time.Duration // age of the object of a node that has gone without a word
	fault   string
	lists   int
}

// The faults of a bucket.
const (
	emptyBucket = "empty bucket"
	emptyBody   = "200 without a body"
	error500    = "500"
	denied      = "403"
	hugeBody    = "endless body"
	slowBody    = "body in single bytes"
	badObjects  = "objects that are none of HiveMQ's"
)

const (
	bucketName   = "hivemq-discovery"
	bucketPrefix = "hivemq/cluster/nodes/"
)

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{keys: t.TempDir(), objects: make(map[string]string), expired: 7 * time.Minute}
	for _, name := range []string{"access", "secret"} {
		if err := os.WriteFile(filepath.Join(b.keys, name), []byte(name+"-of-e2e\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.address = serveHTTP(t, b)
	return b
}

// node is the object that HiveMQ's S3 cluster discovery extension 4.3.13 writes for a node
// (hivemq.md, 4.2); 7000 is the port of the cluster's own transport.
func node(id, host string, age time.Duration) string {
	text := fmt.Sprintf("4||||%d||||%s||||%s||||7000", time.Now().Add(-age).UnixMilli(), id, host)
	return base64.StdEncoding.EncodeToString([]byte(text))
}

// list makes these hosts the nodes of the cluster, beside one whose object has expired: HiveMQ's own limit is
// 6 minutes.
func (b *bucket) list(hosts ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.objects)
	b.objects[bucketPrefix+"Exprd"] = node("Exprd", "127.0.99.99", b.expired)
	for _, host := range hosts {
		id := "N" + strings.ReplaceAll(host, ".", "")
		b.objects[bucketPrefix+id] = node(id, host, time.Second)
	}
}

func (b *bucket) behave(fault string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = fault
}

// is tells whether the fault lasts.
func (b *bucket) is(fault string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fault == fault
}

// questions is how many listings were asked for.
func (b *bucket) questions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lists
}

func (b *bucket) source(port int) string {
	return fmt.Sprintf("{s3: {bucket: %s, prefix: %q, endpoint: %q, region: eu-central-1, port: %d, interval: 1s, access_key_file: %q, secret_key_file: %q}}",
		bucketName, bucketPrefix, "http://"+b.address, port, filepath.Join(b.keys, "access"), filepath.Join(b.keys, "secret"))
}

// ServeHTTP implements http.Handler.
func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b.mu.Lock()
	fault := b.fault
	if key == "" {
		b.lists++
	}
	object, found := b.objects[key]
	b.mu.Unlock()
	signed := strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=access-of-e2e/")
	switch {
	case fault == error500:
		refuse(w, http.StatusInternalServerError, "InternalError")
	case fault == denied || !signed || r.Method != http.MethodGet:
		refuse(w, http.StatusForbidden, "AccessDenied")
	case name != bucketName:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case fault == emptyBody:
	case fault == hugeBody:
		w.Header().Set("Content-Type", "application/xml")
		_, _ = io.WriteString(w, "<ListBucketResult>")
		for block := strings.Repeat("<Contents></Contents>", 1000); r.Context().Err() == nil; {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
	case fault == slowBody:
		drip(w, r, "<ListBucketResult><IsTruncated>false</IsTruncated>", func() bool { return b.is(slowBody) })
	case key == "":
		b.listing(w, r.URL.Query(), fault)
	case !found:
		refuse(w, http.StatusNotFound, "NoSuchKey")
	default:
		if fault == badObjects {
			object = "not an object of HiveMQ's\n"
		}
		w.Header().Set("ETag", etag(object))
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, object)
	}
}

// listing answers ListObjectsV2.
func (b *bucket) listing(w http.ResponseWriter, q url.Values, fault string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	type entry struct {
		Key, LastModified, ETag string
		Size                    int
	}
	var page struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []entry
	}
	const most = 2
	var keys []string
	for key := range b.objects {
		if fault != emptyBucket && strings.HasPrefix(key, q.Get("prefix")) && key > q.Get("continuation-token") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if len(keys) > most {
		keys = keys[:most]
		page.IsTruncated, page.NextContinuationToken = true, keys[most-1]
	}
	for _, key := range keys {
		object := b.objects[key]
		tag := etag(object)
		if fault == badObjects {
			tag = `"changed"`
		}
		page.Contents = append(page.Contents, entry{
			Key: key, LastModified: time.Now().UTC().Format(time.RFC3339), ETag: tag, Size: len(object),
		})
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(page)
}

// etag is different for different contents.
func etag(content string) string { return fmt.Sprintf("%q", fmt.Sprintf("%x", content)) }

// refuse answers with an error as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

// drip sends a body in single bytes, a few per second, while a condition holds and the reader has patience.
func drip(w http.ResponseWriter, r *http.Request, body string, holds func() bool) {
	w.Header().Set("Content-Length", fmt.Sprint(1<<20))
	for i := 0; holds() && r.Context().Err() == nil; i++ {
		if _, err := w.Write([]byte{body[i%len(body)]}); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(200 * time.Millisecond)
	}
}
