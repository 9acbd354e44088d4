package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestBill(t *testing.T) {
	t.Parallel()
	b := billOf(&debug.BuildInfo{
		GoVersion: "go1.26.1",
		Main:      debug.Module{Path: "example.com/main", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "example.com/a", Version: "v1.0.0", Sum: "h1:AQI="},
			{Path: "example.com/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/c", Version: "v2.0.0"}},
		},
	}, "v1.2.3")
	got, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,` +
		`"metadata":{"component":{"bom-ref":"pkg:golang/example.com/main@v1.2.3","type":"application","name":"example.com/main","version":"v1.2.3","purl":"pkg:golang/example.com/main@v1.2.3"}},` +
		`"components":[` +
		`{"bom-ref":"pkg:golang/std@1.26.1","type":"library","name":"std","version":"1.26.1","purl":"pkg:golang/std@1.26.1"},` +
		`{"bom-ref":"pkg:golang/example.com/a@v1.0.0","type":"library","name":"example.com/a","version":"v1.0.0","purl":"pkg:golang/example.com/a@v1.0.0","hashes":[{"alg":"SHA-256","content":"0102"}]},` +
		`{"bom-ref":"pkg:golang/example.com/c@v2.0.0","type":"library","name":"example.com/c","version":"v2.0.0","purl":"pkg:golang/example.com/c@v2.0.0"}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A binary can be read, and what is none is an error.
func TestRun(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run([]string{self, "v1.2.3"}, &out); err != nil {
		t.Fatal(err)
	}
	var b bill
	if err := json.Unmarshal(out.Bytes(), &b); err != nil || len(b.Components) == 0 || b.Components[0].Name != "std" {
		t.Errorf("got %s, error %v, want the standard library first", &out, err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {self}, {text, "v1.2.3"}} {
		if err := run(args, &out); err == nil {
			t.Errorf("got no error for %q", args)
		}
	}
}
