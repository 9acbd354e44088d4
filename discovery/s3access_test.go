package discovery_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/discovery"
)

// Keys in files may be replaced while mqttlb runs, and tokens are used.
func TestS3CredentialsFromFiles(t *testing.T) {
	t.Parallel()
	b := newBucket(t)
	b.put("a", node("a", "10.0.0.1", 0))
	files := secrets(t, "first", "secret", "token")
	j := newJournal()
	r := run(t, &discovery.S3{
		Bucket: bucketName, Endpoint: b.URL, AccessKeyFile: files[0], SecretKeyFile: files[1], SessionTokenFile: files[2],
		Interval: 5 * time.Millisecond, Log: j.logger(), Observer: j,
	}, j)
	r.next(patience)
	write := func(text string) {
		if err := os.WriteFile(files[0]+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(files[0]+".new", files[0]); err != nil {
			t.Fatal(err)
		}
	}
	write("second")
	r.until("the new key", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.keys["secondtoken"] })
	write("")
	r.fails(1)
	write("third")
	r.until("the third key", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.keys["thirdtoken"] })
	r.end()
	r.logs("credentials for S3: " + files[0] + " is empty")
	if b.mu.Lock(); !b.keys["firsttoken"] || len(b.keys) != 3 {
		t.Errorf("got keys %v", b.keys)
	}
	b.mu.Unlock()
}

// Without files, credentials come from where the AWS tools look, the environment first.
func TestS3CredentialsFromSurroundings(t *testing.T) {
	b := newBucket(t)
	b.put("a", node("a", "10.0.0.1", 0))
	start := func() *running {
		j := newJournal()
		return run(t, &discovery.S3{Bucket: bucketName, Endpoint: b.URL, Interval: 5 * time.Millisecond, Log: j.logger(), Observer: j}, j)
	}
	used := func(key string) bool { b.mu.Lock(); defer b.mu.Unlock(); return b.keys[key] }
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	} {
		t.Setenv(name, "")
	}
	nowhere := filepath.Join(t.TempDir(), "nothing")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
	t.Setenv("AWS_CONFIG_FILE", nowhere)

	// A container has an address that gives out keys; these expire at once, and are asked for again.
	issued := 0
	b.instead(func(w http.ResponseWriter, r *http.Request, _ string) bool {
		if r.URL.Path != "/container-credentials" {
			return false
		}
		b.mu.Lock()
		issued++
		n := issued
		b.mu.Unlock()
		if n > 10 {
			refuse(w, 500, "NoMore")
			return true
		}
		fmt.Fprintf(w, `{"AccessKeyId":"issued-%d","SecretAccessKey":"s","Token":"","Expiration":%q}`, n, time.Now().Add(time.Duration(n/3)*time.Hour).UTC().Format(time.RFC3339))
		return true
	})
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", b.URL+"/container-credentials")
	r := start()
	r.next(patience)
	r.until("later keys", func() bool { return used("issued-3") })
	r.confirms(5)
	r.end()
	if used("issued-4") {
		t.Error("got new keys although the last ones are valid for an hour")
	}
	b.mu.Lock()
	issued = 10
	b.mu.Unlock()
	r = start()
	r.fails(1)
	r.end()
	r.logs("credentials for S3: none in the environment, the AWS files, the container or the instance; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")

	files := secrets(t, "[default]\naws_access_key_id = from-file\naws_secret_access_key = s")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", files[0])
	r = start()
	r.next(patience)
	r.end()
	t.Setenv("AWS_ACCESS_KEY_ID", "from-environment")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	r = start()
	r.next(patience)
	r.end()
	if !used("from-file") || !used("from-environment") {
		t.Errorf("got keys %v", b.keys)
	}
}

// Options that make no sense are an error at once.
func TestS3Options(t *testing.T) {
	t.Parallel()
	ended, stop := context.WithCancel(t.Context())
	stop() // whoever takes them for good must not ask Amazon
	for want, s := range map[string]*discovery.S3{
		"needs a bucket":                 {},
		"Bucket name contains":           {Bucket: "Big_Bucket"},
		"needs both keys in files":       {Bucket: "bucket", AccessKeyFile: "f"},
		"needs both keys in files, or":   {Bucket: "bucket", SessionTokenFile: "f"},
		`got "ftp://h"`:                  {Bucket: "bucket", Endpoint: "ftp://h"},
		`got "http://h/path"`:            {Bucket: "bucket", Endpoint: "http://h/path"},
		`got "http://u:p@h"`:             {Bucket: "bucket", Endpoint: "http://u:p@h"},
		`got "http://"`:                  {Bucket: "bucket", Endpoint: "http://"},
		`such as http://minio.example:9`: {Bucket: "bucket", Endpoint: "a b"},
	} {
		if err := s.Run(ended, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, endpoint := range []string{"", "minio.example", "minio.example:9000", "http://127.0.0.1:9000/", "2001:db8::1", "[2001:db8::1]:9000"} {
		if err := (&discovery.S3{Bucket: "bucket", Endpoint: endpoint}).Run(ended, nil); err != nil {
			t.Errorf("got %v for the endpoint %q", err, endpoint)
		}
	}
}
