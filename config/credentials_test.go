package config

import (
	"reflect"
	"strings"
	"testing"
)

// Every file that is read may be a credential, and no other value is touched.
func TestCredentials(t *testing.T) {
	t.Parallel()
	cfg := specimen()
	visit(reflect.ValueOf(cfg).Elem(), "", func(_ string, _ field, v reflect.Value) {
		if v.Kind() == reflect.String {
			v.SetString("${CREDENTIALS_DIRECTORY}/secret")
		}
	})
	r := newReport("")
	expandPaths(cfg, Options{Credentials: "/run/credentials/mqttlb.service/"}, r)
	if err := r.err(); err != nil {
		t.Fatal(err)
	}
	files := 0
	visit(reflect.ValueOf(cfg).Elem(), "", func(path string, f field, v reflect.Value) {
		want := "${CREDENTIALS_DIRECTORY}/secret"
		if f.file {
			want = "/run/credentials/mqttlb.service/secret"
			files++
		}
		if v.Kind() == reflect.String && v.String() != want {
			t.Errorf("%s: got %q, want %q", path, v.String(), want)
		}
	})
	if files < 10 {
		t.Errorf("got %d files, want more; is the test blind?", files)
	}
}

// A path that only looks like a variable is one.
func TestPathsWithDollars(t *testing.T) {
	t.Parallel()
	const yaml = "admin: {token_file: \"/etc/$HOME/$\"}\nclusters: [{discovery: {static: [{address: \"10.0.0.1:1883\"}]}}]\n"
	cfg, err := Parse("", []byte(yaml), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Admin.TokenFile; !strings.HasPrefix(got, "/etc/$HOME/") {
		t.Errorf("got %q, want it as it was", got)
	}
}
