package discovery_test

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"hash/fnv"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bucket is a server with one bucket, as far as a reader needs S3.
type bucket struct {
	*httptest.Server

	mu       sync.Mutex
	objects  map[string]string // by key
	page     int               // objects in a page of the listing, if less than asked for
	gets     map[string]int    // by key
	lists    int
	keys     map[string]bool // access keys that requests were signed with
	inFlight int             // objects that are being read
	most     int             // … at most
	eight    chan struct{}   // closed when eight are being read; may be nil
	// intercept may answer in place of the server; key is empty for the listing.
	intercept func(w http.ResponseWriter, r *http.Request, key string) bool
}

const bucketName = "discovery"

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{objects: make(map[string]string), gets: make(map[string]int), keys: make(map[string]bool), page: 1000}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

// node is the content of an object as HiveMQ writes it.
func node(id, host string, age time.Duration) string {
	text := fmt.Sprintf("4||||%d||||%s||||%s||||7000", time.Now().Add(-age).UnixMilli(), id, host)
	return base64.StdEncoding.EncodeToString([]byte(text))
}

func (b *bucket) put(key, content string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.objects[key] = content
}

func (b *bucket) remove(keys ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		delete(b.objects, key)
	}
}

// instead makes the server do something else; nil ends that.
func (b *bucket) instead(f func(w http.ResponseWriter, r *http.Request, key string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.intercept = f
}

// read is how often an object was read.
func (b *bucket) read(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gets[key]
}

// ServeHTTP implements http.Handler.
func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	b.mu.Lock()
	if _, credential, signed := strings.Cut(r.Header.Get("Authorization"), "Credential="); signed {
		id, _, _ := strings.Cut(credential, "/")
		b.keys[id+r.Header.Get("X-Amz-Security-Token")] = true
	}
	intercept := b.intercept
	if key != "" {
		b.gets[key]++
		b.inFlight++
		b.most = max(b.most, b.inFlight)
		if b.inFlight == 8 && b.eight != nil {
			close(b.eight)
			b.eight = nil
		}
		defer func() { b.mu.Lock(); b.inFlight--; b.mu.Unlock() }()
	} else if r.URL.Query().Has("list-type") {
		b.lists++
	}
	b.mu.Unlock()
	if intercept != nil && intercept(w, r, key) {
		return
	}
	switch {
	case r.Method != http.MethodGet:
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	case name != bucketName:
		refuse(w, http.StatusNotFound, "NoSuchBucket")
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 "):
		refuse(w, http.StatusForbidden, "AccessDenied")
	case key != "":
		b.object(w, key)
	case r.URL.Query().Has("location"):
		fmt.Fprint(w, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-central-1</LocationConstraint>`)
	default:
		b.list(w, r.URL.Query())
	}
}

func (b *bucket) object(w http.ResponseWriter, key string) {
	b.mu.Lock()
	content, ok := b.objects[key]
	b.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", etag(content))
	w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	fmt.Fprint(w, content)
}

func (b *bucket) list(w http.ResponseWriter, q url.Values) {
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
		EncodingType          string
		Contents              []entry
	}
	page.EncodingType = "url"
	var keys []string
	for key := range b.objects {
		if strings.HasPrefix(key, q.Get("prefix")) && key > q.Get("continuation-token") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	most, err := strconv.Atoi(q.Get("max-keys"))
	if err != nil {
		most = 1000
	}
	most = min(most, b.page)
	if len(keys) > most {
		page.IsTruncated, keys = true, keys[:most]
		page.NextContinuationToken = keys[most-1]
	}
	for _, key := range keys {
		page.Contents = append(page.Contents, entry{
			Key: url.QueryEscape(key), LastModified: time.Now().UTC().Format(time.RFC3339), ETag: etag(b.objects[key]), Size: len(b.objects[key]),
		})
	}
	w.Header().Set("Content-Type", "application/xml")
	_ = xml.NewEncoder(w).Encode(page)
}

func etag(content string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(content))
	return fmt.Sprintf(`"%x"`, h.Sum64())
}

// refuse answers with an error as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s it is</Message></Error>", code, code)
}
