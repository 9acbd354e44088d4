package discovery

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
)

func encode(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestParseNode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, content, want string }{
		{"as HiveMQ writes it", "NHx8fHwxNzAwMDAwMDAwMDAwfHx8fEFiM2RFfHx8fDEwLjAuMC40fHx8fDcwMDA=", "Ab3dE 10.0.0.4 7000 1700000000000"}, // hivemq.md, 4.2
		{"a host name", encode("4||||1||||id||||broker-1.example||||8000"), "id broker-1.example 8000 1"},
		{"IPv6", encode("4||||1||||id||||2001:db8::1||||8000"), "id 2001:db8::1 8000 1"},
		{"spaces and bars", encode("4||||1||||a b|c||||h||||8000"), "a b|c h 8000 1"},
		{"port unknown to HiveMQ too", encode("4||||1||||id||||h||||-1"), "id h -1 1"},

		{"empty", "", "the object is empty"},
		{"plain text", "4||||1||||id||||h||||8000", "not Base64: illegal base64 data at input byte 1"},
		{"line break at the end", encode("4||||1||||id||||h||||8000") + "\n", "not Base64: it contains a line break"},
		{"space at the end", encode("4||||1||||id||||h||||8000") + " ", "not Base64: illegal base64 data at input byte 36"},
		{"no padding", strings.TrimRight(encode("4||||1||||id||||h||||80"), "="), "not Base64: illegal base64 data at input byte 28"},
		{"URL alphabet", "NHx8fHwx-_==", "not Base64: illegal base64 data at input byte 8"},
		{"another version", encode("5||||1||||id||||h||||8000"), `version "5" of the content; only "4" is known`},
		{"version of HiveMQ 3", encode("3||||1||||id||||h||||8000"), `version "3" of the content; only "4" is known`},
		{"four fields", encode("4||||1||||id||||h"), "4 fields instead of 5"},
		{"six fields", encode("4||||1||||id||||h||||8000||||x"), "6 fields instead of 5"},
		{"another separator", encode("4|||1|||id|||h|||8000"), "1 fields instead of 5"},
		{"no time", encode("4||||||||id||||h||||8000"), `creation time "" is not a positive number`},
		{"time zero", encode("4||||0||||id||||h||||8000"), `creation time "0" is not a positive number`},
		{"time before time", encode("4||||-1||||id||||h||||8000"), `creation time "-1" is not a positive number`},
		{"time too large", encode("4||||9223372036854775808||||id||||h||||8000"), `creation time "9223372036854775808" is not a positive number`},
		{"no id", encode("4||||1|||| ||||h||||8000"), "no cluster id"},
		{"no host", encode("4||||1||||id||||||||8000"), "no host"},
		{"no port", encode("4||||1||||id||||h||||"), `port "" is not a number`},
		{"port too large", encode("4||||1||||id||||h||||2147483648"), `port "2147483648" is not a number`},
		{"not UTF-8", encode("4||||1||||\xff||||h||||8000"), "not UTF-8"},
	} {
		n, err := parseNode([]byte(c.content))
		got := fmt.Sprint(n.clusterID, " ", n.host, " ", n.port, " ", n.created.UnixMilli())
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

// A node expires when it is older than the expiration (ClusterNodeFile.isExpired); the future is young.
func TestNodeExpires(t *testing.T) {
	t.Parallel()
	n := node{created: time.UnixMilli(1_700_000_000_000)}
	for _, c := range []struct{ age, expiration time.Duration }{
		{360001 * time.Millisecond, 6 * time.Minute}, {time.Hour, 6 * time.Minute}, {2, 1},
	} {
		if !n.expired(n.created.Add(c.age), c.expiration) {
			t.Errorf("got a node that lives at the age of %v, with an expiration of %v", c.age, c.expiration)
		}
	}
	for _, c := range []struct{ age, expiration time.Duration }{
		{6 * time.Minute, 6 * time.Minute}, {0, 6 * time.Minute}, {-time.Hour, 6 * time.Minute}, {1000 * time.Hour, 0}, {1000 * time.Hour, -1},
	} {
		if n.expired(n.created.Add(c.age), c.expiration) {
			t.Errorf("got a node that has expired at the age of %v, with an expiration of %v", c.age, c.expiration)
		}
	}
}

// FuzzParseNode checks that what is accepted is what HiveMQ would write for the same node.
func FuzzParseNode(f *testing.F) {
	f.Add([]byte("NHx8fHwxNzAwMDAwMDAwMDAwfHx8fEFiM2RFfHx8fDEwLjAuMC40fHx8fDcwMDA="))
	for _, text := range []string{"", "4||||1||||id||||h||||8000", "4||||1||||id||||h||||+8000", "4||||01||||||||||h||||8000", "4||||1||||||||h||||1", "5||||"} {
		f.Add([]byte(encode(text)))
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		n, err := parseNode(content)
		if err != nil {
			if n != (node{}) || err.Error() == "" {
				t.Errorf("got %+v beside %v", n, err)
			}
			return
		}
		if n.clusterID == "" || n.host == "" || n.created.UnixMilli() <= 0 {
			t.Fatalf("got %+v", n)
		}
		// Numbers may have zeros or a plus before them, which no text of Java has.
		fields := strings.Split(fmt.Sprintf("4||||%d||||%s||||%s||||%d", n.created.UnixMilli(), n.clusterID, n.host, n.port), nodeSeparator)
		text, err := base64.StdEncoding.DecodeString(string(content))
		if err != nil {
			t.Fatalf("got %+v from what is not Base64", n)
		}
		for i, field := range strings.Split(string(text), nodeSeparator) {
			if i == 1 || i == 4 {
				field = canonical(field)
			}
			if field != fields[i] {
				t.Errorf("got %q in field %d, want %q", fields[i], i, field)
			}
		}
	})
}

// canonical takes the plus and the zeros from the beginning of a number.
func canonical(number string) string {
	sign := ""
	if strings.HasPrefix(number, "-") {
		sign = "-"
	}
	digits := strings.TrimLeft(strings.TrimLeft(number, "+-"), "0")
	if digits == "" {
		return "0"
	}
	return sign + digits
}
