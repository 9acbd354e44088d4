package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	defaultS3Interval = 60 * time.Second
	// defaultExpiration is what HiveMQ's extension is shipped with; nodes write every 180 s.
	defaultExpiration = 6 * time.Minute
	// defaultS3Timeout bounds one refresh: credentials, the listing and all objects.
	defaultS3Timeout = 30 * time.Second
	// maxObjects bounds the objects under the prefix (protocol.md, 8: 1000 members).
	maxObjects = 1000
	// maxGets bounds how many objects are read at the same time.
	maxGets = 8
)

// S3 reads the objects that HiveMQ's S3 cluster discovery extension writes, one for each node. It works with
// any server that speaks S3, and only reads: it needs s3:ListBucket and s3:GetObject, and without a Region
// also s3:GetBucketLocation.
//
// HiveMQ writes where its cluster transport is reached, so the port for clients comes from here. A node is a
// backend by the name of its host, because the address with that port is all that tells two of them apart;
// when there are several objects of one host, the youngest counts. The label cluster_id has the id that HiveMQ
// gave the node.
//
// Objects that have expired are as good as deleted; HiveMQ removes them some time later. The clocks of the
// brokers and of this machine must agree to well within Expiration. An object that cannot be read at the moment
// counts as it was. If all have expired, the last known backends stay, as ever.
//
// Without files, the credentials come from where the AWS tools look for them: the environment, the shared
// configuration files, a web identity, the container or the instance.
type S3 struct {
	// Bucket is the name of the bucket, HiveMQ's s3-bucket-name.
	Bucket string
	// Prefix is how the keys begin, HiveMQ's file-prefix. There should be nothing else under it.
	Prefix string
	// Endpoint is host, host:port or URL of the server; https is assumed, and empty means Amazon.
	Endpoint string
	// Region is the region of the bucket; empty asks the server.
	Region string
	// Port is the brokers' port for clients; 0 means 1883.
	Port uint16
	// Interval is the pause between two readings; 0 means 60 s.
	Interval time.Duration
	// Expiration is the age from which on an object does not count any more, HiveMQ's file-expiration; 0 means
	// 6 min, less than 0 that objects never expire.
	Expiration time.Duration
	// Timeout bounds one reading; 0 means 30 s.
	Timeout time.Duration
	// AccessKeyFile, SecretKeyFile and SessionTokenFile contain the credentials, one text each. They are read
	// each time, so that they can be replaced. Both keys or neither; the token is only for temporary keys.
	AccessKeyFile, SecretKeyFile, SessionTokenFile string
	// Allowed are the networks that backends may be in; none means any.
	Allowed []netip.Prefix
	// Lookup resolves a host name; nil uses the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Observer may be nil.
	Observer Observer
	// Log may be nil.
	Log *slog.Logger

	endpoint  endpoint
	transport *guard
	chain     *credentialChain
	client    *minio.Core
	value     credentials.Value // those that the client uses
	cache     map[string]cached // by key
}

// A cached object need not be read again while it is the same.
type cached struct {
	etag string
	node node
	err  error // it is no description of a node
}

// Run implements Source.
func (s *S3) Run(ctx context.Context, sets chan<- []balancer.Backend) error {
	if err := s3utils.CheckValidBucketNameStrict(s.Bucket); err != nil {
		return fmt.Errorf("discovery by S3 needs a bucket: %w", err)
	}
	if (s.AccessKeyFile == "") != (s.SecretKeyFile == "") || s.SessionTokenFile != "" && s.AccessKeyFile == "" {
		return errors.New("discovery by S3 needs both keys in files, or none")
	}
	var err error
	if s.endpoint, err = parseEndpoint(s.Endpoint); err != nil {
		return err
	}
	base := newTransport()
	defer base.CloseIdleConnections()
	s.transport = &guard{next: base}
	s.chain = newCredentialChain(&http.Client{Transport: s.transport})
	s.cache = make(map[string]cached)
	r := &refresher{
		source: "s3", fetch: s.fetch, interval: orDefault(s.Interval, defaultS3Interval), most: maxObjects,
		allowed: s.Allowed, lookup: orSystem(s.Lookup), observer: s.Observer, journal: journal{log: logger(s.Log)},
	}
	return r.run(ctx, sets)
}

// fetch reads all objects.
func (s *S3) fetch(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, orDefault(s.Timeout, defaultS3Timeout))
	defer cancel()
	s.transport.refill()
	if err := s.connect(ctx); err != nil {
		return answer{}, err
	}
	objects, err := s.list(ctx)
	if err != nil {
		return answer{}, fmt.Errorf("list s3://%s/%s: %w", s.Bucket, s.Prefix, explainS3(err))
	}
	if len(objects) == 0 {
		return answer{}, fmt.Errorf("no objects in s3://%s/%s; the prefix must be the file-prefix of HiveMQ's extension", s.Bucket, s.Prefix)
	}
	return s.read(ctx, objects)
}

// connect makes a client, unless there is one with the credentials that are valid now.
func (s *S3) connect(ctx context.Context) error {
	value, err := s.credentials(ctx)
	if err != nil {
		return fmt.Errorf("credentials for S3: %w", err)
	}
	if s.client != nil && value == s.value {
		return nil
	}
	s.client, err = minio.NewCore(s.endpoint.host, &minio.Options{
		Creds:  credentials.NewStaticV4(value.AccessKeyID, value.SecretAccessKey, value.SessionToken),
		Secure: s.endpoint.secure, Region: s.Region, Transport: s.transport,
		MaxRetries: 1, // the refresher does that, and better
	})
	s.value = value
	return err
}

func (s *S3) credentials(ctx context.Context) (credentials.Value, error) {
	if s.AccessKeyFile == "" {
		return s.chain.get(ctx)
	}
	return readCredentials(s.AccessKeyFile, s.SecretKeyFile, s.SessionTokenFile)
}

// list returns the objects under the prefix.
func (s *S3) list(ctx context.Context) ([]minio.ObjectInfo, error) {
	ctx, cancel := context.WithCancel(ctx) // the iterator wants it when it is left early
	defer cancel()
	var objects []minio.ObjectInfo
	owner := false
	for o := range s.client.ListObjectsIter(ctx, s.Bucket, minio.ListObjectsOptions{
		Prefix: s.Prefix, Recursive: true, MaxKeys: pageSize, FetchOwner: &owner,
	}) {
		if o.Err != nil {
			return nil, o.Err
		}
		if strings.HasSuffix(o.Key, "/") { // what consoles call a folder
			continue
		}
		if len(objects) == maxObjects {
			return nil, fmt.Errorf("more than %d objects; the prefix must be the file-prefix of HiveMQ's extension, with nothing else under it", maxObjects)
		}
		objects = append(objects, o)
	}
	if err := ctx.Err(); err != nil { // the iterator ends without an error then
		return nil, err
	}
	return objects, nil
}

// read reads the objects and returns the backends that they describe.
func (s *S3) read(ctx context.Context, objects []minio.ObjectInfo) (answer, error) {
	contents := s.getAll(ctx, objects)
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return answer{}, err
	}
	now, expiration := time.Now(), cmp.Or(s.Expiration, defaultExpiration)
	var a answer
	var nodes []node
	kept := make(map[string]cached, len(objects))
	old, youngest, vanished := 0, time.Time{}, 0
	for i, o := range objects {
		c := contents[i]
		c.node.key = o.Key
		if c.failed != nil {
			before, known := s.cache[o.Key]
			if isGone(c.failed) { // it was deleted since it was listed
				vanished++
				continue
			}
			a.incomplete = true
			a.left = append(a.left, complaint{
				backend: before.node.host, where: o.Key, why: fmt.Errorf("read the object: %w", explainS3(c.failed)), kept: known && before.err == nil,
			})
			if !known {
				continue
			}
			c.cached = before
		}
		kept[o.Key] = c.cached
		switch {
		case c.err != nil && c.failed == nil:
			a.left = append(a.left, complaint{where: o.Key, why: c.err})
		case c.err != nil:
		case c.node.expired(now, expiration):
			old++
			if c.node.created.After(youngest) {
				youngest = c.node.created
			}
		default:
			nodes = append(nodes, c.node)
		}
	}
	s.cache = kept
	a.backends, a.where = s.backends(nodes)
	switch {
	case len(nodes) > 0:
	case old > 0:
		return a, fmt.Errorf("%w: %d objects in s3://%s/%s have expired, the youngest was written at %s; are the brokers writing, and are all clocks right?",
			errNobody, old, s.Bucket, s.Prefix, youngest.UTC().Format(time.RFC3339))
	case len(a.left) > 0:
		return a, fmt.Errorf("%w: none of %d objects in s3://%s/%s can be used, the first because of: %w",
			errNobody, len(objects), s.Bucket, s.Prefix, a.left[0].why)
	default:
		return a, fmt.Errorf("%w: %d objects in s3://%s/%s have gone while they were read", errNobody, vanished, s.Bucket, s.Prefix)
	}
	return a, nil
}

// backends turns nodes into backends, the youngest of each host, sorted by name.
func (s *S3) backends(nodes []node) (list []balancer.Backend, where []string) {
	slices.SortFunc(nodes, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.host, b.host), b.created.Compare(a.created), cmp.Compare(a.clusterID, b.clusterID))
	})
	nodes = slices.CompactFunc(nodes, func(a, b node) bool { return a.host == b.host })
	port := strconv.Itoa(int(cmp.Or(s.Port, defaultMQTTPort)))
	for _, n := range nodes {
		list = append(list, balancer.Backend{
			Name: n.host, Address: net.JoinHostPort(n.host, port), Labels: map[string]string{"cluster_id": n.clusterID},
		})
		where = append(where, n.key)
	}
	return list, where
}

// A content is what an object contains, or why it could not be read.
type content struct {
	cached
	failed error
}

// getAll gets the objects, several at a time. What has not changed since the last time is not read again.
func (s *S3) getAll(ctx context.Context, objects []minio.ObjectInfo) []content {
	contents := make([]content, len(objects))
	next := make(chan int)
	var running sync.WaitGroup
	for range min(maxGets, len(objects)) {
		running.Go(func() {
			for i := range next {
				contents[i] = s.get(ctx, &objects[i])
			}
		})
	}
	for i := range objects {
		before, known := s.cache[objects[i].Key]
		if known && before.etag != "" && before.etag == objects[i].ETag {
			contents[i].cached = before
			continue
		}
		next <- i
	}
	close(next)
	running.Wait()
	return contents
}
