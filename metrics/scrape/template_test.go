package scrape

import (
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestTemplate(t *testing.T) {
	t.Parallel()
	v4 := balancer.Backend{Name: "hive mq/0", Address: "10.0.0.1:1883", Host: "hivemq-0.local", Labels: map[string]string{"port": "9400", "bad": "a@b/c?d"}}
	v6 := balancer.Backend{Name: "n6", Address: "[fd00::1%eth0]:1883"}
	for _, test := range []struct {
		text    string
		backend balancer.Backend
		url     string
		dial    string
		err     string
	}{
		{text: "http://{host}:9399/metrics", backend: v4, url: "http://hivemq-0.local:9399/metrics", dial: "10.0.0.1:9399"},
		{text: "https://{host}/{name}", backend: v4, url: "https://hivemq-0.local/hive%20mq%2F0", dial: "10.0.0.1:443"},
		{text: "http://{host}:{label.port}", backend: v4, url: "http://hivemq-0.local:9400", dial: "10.0.0.1:9400"},
		{text: "http://metrics:{port}/?of={host}", backend: v4, url: "http://metrics:1883/?of=hivemq-0.local", dial: "metrics:1883"},
		{text: "http://{host}/{label.bad}", backend: v4, url: "http://hivemq-0.local/a%40b%2Fc%3Fd", dial: "10.0.0.1:80"},
		{text: "http://{host}:9399/", backend: v6, url: "http://[fd00::1%25eth0]:9399/", dial: "[fd00::1%eth0]:9399"},
		{
			text: "http://{host}:{label.port}", backend: v6,
			err: `the backend has no label "port", which the url needs for {label.port}`,
		},
		{text: "http://{label.bad}/", backend: v4, err: `url "http://a%40b%2Fc%3Fd/" is no URL: invalid URL escape "%40"`},
		{text: "http://{host}/", backend: balancer.Backend{Address: "x"}, err: `address of the backend: address x: missing port in address`},
	} {
		template, err := parseTemplate(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		l, err := template.expand(&test.backend)
		switch {
		case test.err != "":
			if err == nil || err.Error() != test.err {
				t.Errorf("%s: got error %v, want %s", test.text, err, test.err)
			}
		case err != nil:
			t.Errorf("%s: %v", test.text, err)
		case l.url.String() != test.url || l.dial != test.dial:
			t.Errorf("%s: got %s at %s, want %s at %s", test.text, l.url, l.dial, test.url, test.dial)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"http://{host", `"http://{host" has a { without a } after it; the placeholders are {host} {port} {name} {label.KEY}`},
		{"http://host}", `"http://host}" has a } without a { before it; the placeholders are {host} {port} {name} {label.KEY}`},
		{"http://{ip}", `"http://{ip}" has the unknown placeholder {ip}; the placeholders are {host} {port} {name} {label.KEY}`},
		{"http://{label.}", `"http://{label.}" has the unknown placeholder {label.}; the placeholders are {host} {port} {name} {label.KEY}`},
		{"{host}:9399/metrics", `"1:9399/metrics" is no URL: first path segment in URL cannot contain colon`},
		{"/metrics", `"/metrics" is no URL of metrics; write one like http://{host}:9399/metrics`},
		{"ftp://{host}/", `"ftp://1/" is no URL of metrics; write one like http://{host}:9399/metrics`},
		{"http://user:secret@{host}/", `must hold no password, it would end up in logs; name a password file or a token file instead`},
		{"http://" + strings.Repeat("a", maxURL), `is 2055 bytes long, the most is 2048`},
	} {
		if _, err := parseTemplate(test.text); err == nil || err.Error() != test.want {
			t.Errorf("%.40s:\n got %v\nwant %s", test.text, err, test.want)
		}
	}
}
