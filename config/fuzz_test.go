package config

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"testing"
)

// FuzzParse checks that any bytes give either a configuration that survives
// being written and read again, or errors with positions inside the file.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"testdata", "../docs"} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			f.Fatal(err)
		}
		for _, entry := range entries {
			if !entry.Type().IsRegular() {
				continue
			}
			data, err := os.ReadFile(dir + "/" + entry.Name())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("fuzz.yaml", data, testOptions())
		if err == nil {
			checkStable(t, cfg)
			return
		}
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 || len(errs) > maxErrors+1 || cfg != nil {
			t.Fatalf("got (%v, %v), want no configuration and some Errors", cfg, err)
		}
		lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + 1
		for i, e := range errs {
			if i < maxErrors && (e.Line < 1 || e.Line > lines || e.Column < 1) {
				t.Errorf("%v is outside of the file with %d lines", e, lines)
			}
		}
	})
}

// checkStable checks that cfg is the same after being written and read, and
// that its text is too.
func checkStable(t *testing.T, cfg *Config) {
	t.Helper()
	text := cfg.MarshalWithSecrets()
	again, err := Parse("marshalled.yaml", text, Options{})
	if err != nil {
		t.Fatalf("the marshalled configuration is not valid: %v\n%s", err, text)
	}
	if second := again.MarshalWithSecrets(); !bytes.Equal(text, second) {
		t.Errorf("marshalled twice, the text differs; first:\n%s\nsecond:\n%s", text, second)
	}
	if !reflect.DeepEqual(cfg, again) {
		t.Errorf("got %+v after a round trip, want %+v", again, cfg)
	}
}
