package mqttparse_test

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata/connect")

// A vector is one file of testdata/connect: a comment with the clause that it is about, the bytes in hex
// with text in quotes, a line of dashes, and what ParseConnect makes of it. The first word of its name is
// the verdict: good, more or bad.
type vector struct {
	name, path, source string
	in                 []byte
	want               string
}

const dashes = "----\n"

func vectors(tb testing.TB) []vector {
	tb.Helper()
	paths, err := filepath.Glob("testdata/connect/*.hex")
	if err != nil || len(paths) == 0 {
		tb.Fatalf("no test vectors: %v", err)
	}
	var vs []vector
	for _, path := range paths {
		file, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		source, want, ok := strings.Cut(string(file), dashes)
		if !ok || !strings.HasPrefix(source, "# ") {
			tb.Fatalf("%s: comment or dashes are missing", path)
		}
		in, err := decodeHex(source)
		if err != nil {
			tb.Fatalf("%s: %v", path, err)
		}
		name := strings.TrimSuffix(filepath.Base(path), ".hex")
		vs = append(vs, vector{name, path, source, in, want})
	}
	return vs
}

// decodeHex reads hex digits, "text" and # comments.
func decodeHex(source string) (b []byte, err error) {
	for line := range strings.Lines(source) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for i, part := range strings.Split(line, `"`) {
			if i%2 == 1 {
				b = append(b, part...)
				continue
			}
			h, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
			if err != nil {
				return nil, err
			}
			b = append(b, h...)
		}
	}
	return b, nil
}

func TestConnectVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			c, err := mqttparse.ParseConnect(v.in)
			verdict, _, _ := strings.Cut(v.name, "_")
			if got := verdictOf(err); got != verdict {
				t.Fatalf("got verdict %s (%v), want %s", got, err, verdict)
			}
			got := describe(&c, err)
			if *update {
				if err := os.WriteFile(v.path, []byte(v.source+dashes+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != v.want {
				t.Errorf("got\n%swant\n%s", got, v.want)
			}
		})
	}
}

func verdictOf(err error) string {
	switch {
	case err == nil:
		return "good"
	case errors.Is(err, mqttparse.ErrNeedMore):
		return "more"
	default:
		return "bad"
	}
}

// describe writes down everything that ParseConnect returned.
func describe(c *mqttparse.Connect, err error) string {
	var s strings.Builder
	var syntax *mqttparse.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("%s at %d: %s [%s]\n", syntax.Kind, syntax.Offset, syntax.Msg, syntax.Clause)
	case err != nil:
		return fmt.Sprintf("len %d\n", c.Len)
	}
	fmt.Fprintf(&s, "len %d, version %d, keep alive %d, id %q\n", c.Len, c.Version, c.KeepAlive, c.ClientID)
	line := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&s, format+"\n", args...)
		}
	}
	line(c.Bridge, "bridge")
	line(c.CleanStart, "clean start")
	line(c.SessionExpiry != 0, "session expiry %d", c.SessionExpiry)
	line(c.Persistent() != (c.SessionExpiry != 0), "persistent %t", c.Persistent())
	line(c.ReceiveMax != 0, "receive maximum %d", c.ReceiveMax)
	line(c.MaxPacketSize != 0, "maximum packet size %d", c.MaxPacketSize)
	line(c.HasAuthMethod, "authentication method %q", c.AuthMethod)
	for k, v := range c.UserProperties() {
		line(true, "user property %q = %q", k, v)
	}
	line(c.Will, "will %q = %q, qos %d, retain %t, delay %d", c.WillTopic, c.WillPayload, c.WillQoS, c.WillRetain, c.WillDelay)
	line(!c.Will && (c.WillTopic != nil || c.WillPayload != nil || c.WillQoS != 0 || c.WillRetain || c.WillDelay != 0), "stray will")
	line(c.HasUsername, "username %q", c.Username)
	line(!c.HasUsername && c.Username != nil, "stray username")
	line(c.HasPassword, "password %q", c.Password)
	line(!c.HasPassword && c.Password != nil, "stray password")
	line(c.Nonconforming != 0, "nonconforming %s", c.Nonconforming)
	if e := c.StrictError(); e != nil {
		line(true, "strict: %s [%s]", e.Msg, e.Clause)
	}
	return s.String()
}
