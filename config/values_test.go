package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestScalars reads literals of every kind and writes them again.
func TestScalars(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   literal
		into any // a pointer
		want string
	}{
		{literal{text: "30s"}, new(time.Duration), "30s"},
		{literal{text: "30s", quoted: true}, new(time.Duration), "30s"},
		{literal{text: "0"}, new(time.Duration), "0s"},
		{literal{text: "120s"}, new(time.Duration), "2m"},
		{literal{text: "1h30m"}, new(time.Duration), "1h30m"},
		{literal{text: "60m"}, new(time.Duration), "1h"},
		{literal{text: "1h0m5s"}, new(time.Duration), "1h0m5s"},
		{literal{text: "30"}, new(time.Duration), "write 30s for seconds or 30ms for milliseconds"},
		{literal{text: "30", quoted: true}, new(time.Duration), "write 30s for seconds or 30ms for milliseconds"},
		{literal{text: "2d"}, new(time.Duration), "write 48h"},
		{literal{text: "5 M"}, new(time.Duration), "write 5m"},
		{literal{text: "-1s"}, new(time.Duration), "refused"},
		{literal{text: ""}, new(time.Duration), "refused"},
		{literal{text: "9999999h"}, new(time.Duration), "refused"},

		{literal{text: "512B"}, new(Size), "512B"},
		{literal{text: "65536"}, new(Size), "64KiB"},
		{literal{text: "1GiB"}, new(Size), "1GiB"},
		{literal{text: "0"}, new(Size), "0B"},
		{literal{text: "64 KiB"}, new(Size), "write 64KiB"},
		{literal{text: "1m"}, new(Size), "write 1MiB"},
		{literal{text: "512b"}, new(Size), "write 512B"},
		{literal{text: "1TiB"}, new(Size), "refused"},
		{literal{text: "KiB"}, new(Size), "refused"},
		{literal{text: "9223372036854775807KiB"}, new(Size), "refused"},

		{literal{text: "12"}, new(int), "12"},
		{literal{text: "-12"}, new(int), "-12"},
		{literal{text: "0x10"}, new(int), "16"},
		{literal{text: "012"}, new(int), "write it without the leading 0"},
		{literal{text: "12", quoted: true}, new(int), "write 12 without quotes"},
		{literal{text: "1.0"}, new(int), "refused"},
		{literal{text: "9223372036854775808"}, new(int), "refused"},

		{literal{text: "0xE4"}, new(byte), "0xE4"},
		{literal{text: "228"}, new(byte), "0xE4"},
		{literal{text: "256"}, new(byte), "refused"},
		{literal{text: "-1"}, new(byte), "refused"},

		{literal{text: "1"}, new(float64), "1"},
		{literal{text: "1.25"}, new(float64), "1.25"},
		{literal{text: "1e3"}, new(float64), "1000"},
		{literal{text: "nan"}, new(float64), "refused"},
		{literal{text: "inf"}, new(float64), "refused"},
		{literal{text: "1", quoted: true}, new(float64), "write 1 without quotes"},

		{literal{text: "100/s"}, new(Rate), "100/s"},
		{literal{text: "0.5/s", quoted: true}, new(Rate), "0.5/s"},
		{literal{text: "100"}, new(Rate), "write 100/s"},
		{literal{text: "100 / s"}, new(Rate), "write 100/s"},
		{literal{text: "100/S"}, new(Rate), "write 100/s"},
		{literal{text: "100/sec"}, new(Rate), "write 100/s"},
		{literal{text: "30/m"}, new(Rate), "write it per second, such as 0.5/s"},
		{literal{text: "-1/s"}, new(Rate), "refused"},
		{literal{text: "/s"}, new(Rate), "refused"},
		{literal{text: "1e3/s"}, new(Rate), "refused"},
		{literal{text: "NaN/s"}, new(Rate), "refused"},
		{literal{text: "100/s/s"}, new(Rate), "refused"},

		{literal{text: "5%"}, new(Percent), "5%"},
		{literal{text: "7%"}, new(Percent), "7%"},
		{literal{text: "0.1%"}, new(Percent), "0.1%"},
		{literal{text: "100%"}, new(Percent), "100%"},
		{literal{text: "5 %"}, new(Percent), "write 5%"},
		{literal{text: "5"}, new(Percent), "write 5%"},
		{literal{text: "0.05"}, new(Percent), "write 5%"},
		{literal{text: "-5%"}, new(Percent), "refused"},
		{literal{text: "%"}, new(Percent), "refused"},

		{literal{text: "2%"}, new(Amount), "2%"},
		{literal{text: "200"}, new(Amount), "200"},
		{literal{text: "1"}, new(Amount), "1"},
		{literal{text: "0.02"}, new(Amount), "write 2%"},
		{literal{text: "100%"}, new(Amount), "refused"},
		{literal{text: "2 %"}, new(Amount), "write 2%"},
		{literal{text: "2.5"}, new(Amount), "refused"},
		{literal{text: "-3"}, new(Amount), "refused"},
		{literal{text: "some"}, new(Amount), "refused"},

		{literal{text: "true"}, new(bool), "true"},
		{literal{text: "False"}, new(bool), "false"},
		{literal{text: "true", quoted: true}, new(bool), "write true without quotes"},
		{literal{text: "on"}, new(bool), "write true"},
		{literal{text: "no", quoted: true}, new(bool), "write false"},
		{literal{text: "1"}, new(bool), "refused"},

		{literal{text: "word"}, new(string), "word"},
		{literal{text: "4.40"}, new(string), "4.40"},
		{literal{text: "off"}, new(string), "off"},
		{literal{text: "true", quoted: true}, new(string), "true"},
		{literal{text: "true"}, new(string), `write "true" with the quotes`},
		{literal{text: "s3cret"}, new(Secret), "s3cret"},
	}
	for _, tt := range tests {
		v := reflect.ValueOf(tt.into).Elem()
		k, ok := kindOf(v.Type())
		if !ok {
			t.Fatalf("%v has no kind", v.Type())
		}
		got := ""
		switch hint, ok := k.parse(v, tt.in); {
		case ok:
			got = k.text(v)
		case hint != "":
			got = "write " + hint
		default:
			got = "refused"
		}
		if got != tt.want {
			t.Errorf("%v from %+v: got %q, want %q", v.Type(), tt.in, got, tt.want)
		}
	}
}

// TestSecretStaysSecret prints a configuration in all the ways that a log
// might.
func TestSecretStaysSecret(t *testing.T) {
	t.Parallel()
	cfg, err := Parse("test", []byte("instance: {hash_key: open-sesame}\n"+leastFile()), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if got := string(cfg.Instance.HashKey); got != "open-sesame" {
		t.Errorf("got the hash key %q, want open-sesame", got)
	}
	asJSON, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		string(cfg.Marshal()), string(asJSON),
		fmt.Sprint(cfg), fmt.Sprintf("%+v", cfg), fmt.Sprintf("%#v", cfg), cfg.Instance.HashKey.String(),
	} {
		if strings.Contains(text, "sesame") {
			t.Errorf("the secret shows in %s", text)
		}
		if !strings.Contains(text, "redacted") {
			t.Errorf("nothing says that there is a secret in %s", text)
		}
	}
	if got := string(cfg.MarshalWithSecrets()); !strings.Contains(got, "hash_key: open-sesame\n") {
		t.Errorf("got %s, want it to contain the secret", got)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	keys := []string{"name", "address", "connect_timeout", "connect_size", "client-hash", "drain", "rate"}
	for word, want := range map[string]string{
		"addresz":        "address",
		"addersss":       "address",
		"ADDRESS":        "address",
		"addr":           "address",
		"nam":            "name",
		"names":          "name",
		"connectTimeout": "connect_timeout",
		"connect-size":   "connect_size",
		"client_hash":    "client-hash",
		"drian":          "drain",
		"rat":            "rate",
		"x":              "",
		"":               "",
		"weight":         "",
		"na":             "",
	} {
		if got := nearest(word, keys); got != want {
			t.Errorf("nearest to %q: got %q, want %q", word, got, want)
		}
	}
	if got := nearest(strings.Repeat("a", 1000), []string{strings.Repeat("a", 999)}); got != "" {
		t.Errorf("got %q for a very long word, want none", got)
	}
}
