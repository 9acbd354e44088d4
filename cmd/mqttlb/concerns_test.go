package main

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/internal/testcert"
)

// What is valid and still no good is told, and nothing else is.
func TestConcernsOfListenersAndRoutes(t *testing.T) {
	t.Parallel()
	f := newTLSFolder(t)
	f.ca.Sign(t, testcert.Want{Names: []string{"a.test"}}).Write(t, f.path, "a")
	f.ca.Sign(t, testcert.Want{Names: []string{"*.b.test"}}).Write(t, f.path, "b")
	certificates := fmt.Sprintf("certificates: [{cert: %s/a.crt, key: %s/a.key}, {cert: %s/b.crt, key: %s/b.key}]", f.path, f.path, f.path, f.path)
	text := `
listeners:
  - address: ":1"
    tls: {mode: terminate, ` + certificates + `}
    routes:
      - {sni: a.test, cluster: one}
      - {sni: x.b.test, cluster: one}
      - {sni: "*.b.test", cluster: one}
      - {sni: "*.test", cluster: one}
      - {sni: x.y.b.test, cluster: one}
      - {cluster: two}
  - {address: ":2", cluster: one, proxy_protocol: {trusted: [10.0.0.0/8, "::/0", 0.0.0.0/0]}}
clusters:
  - {name: one, discovery: {static: [{address: "10.0.0.1:1883"}]}}
  - {name: two, discovery: {static: [{address: "10.0.0.2:1883"}]}}
  - {name: three, discovery: {static: [{address: "10.0.0.3:1883"}]}}
`
	cfg, err := config.Parse("x.yaml", []byte(text), config.Options{Hostname: "host"})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	allConcerns(cfg, func(path, msg string) { got[path] = msg })
	want := []string{
		"clusters[2]", "listeners[0].routes[4].sni",
		"listeners[1].proxy_protocol.trusted[1]", "listeners[1].proxy_protocol.trusted[2]",
	}
	if paths := slices.Sorted(maps.Keys(got)); !slices.Equal(paths, want) {
		t.Errorf("got concerns %v, want those of %v", got, want)
	}
}
