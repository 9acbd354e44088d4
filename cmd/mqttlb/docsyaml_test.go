package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// wholeConfigurations are those that users are shown: the files in deploy, and the blocks of the pages that are a
// whole configuration, not a part.
func wholeConfigurations(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../deploy/kubernetes/*/mqttlb.yaml")
	if err != nil {
		t.Fatal(err)
	}
	overlays, err := filepath.Glob("../../deploy/kubernetes/*/*/mqttlb.yaml")
	if err != nil || len(files) == 0 || len(overlays) < 2 {
		t.Fatalf("got %v and %v (error %v); is the test blind?", files, overlays, err)
	}
	found := make(map[string]string)
	for _, f := range append(files, overlays...) {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		found[f] = string(text)
	}
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	clusters := regexp.MustCompile(`(?m)^clusters:`)
	for page, text := range pages(t) {
		for _, m := range block.FindAllStringSubmatchIndex(text, -1) {
			if content := text[m[2]:m[3]]; clusters.MatchString(content) {
				line, _, _ := strings.Cut(content, "\n")
				found[page+": "+line+" …, line "+lineOf(text, m[0])] = content
			}
		}
	}
	return found
}

func lineOf(text string, at int) string {
	return strconv.Itoa(strings.Count(text[:at], "\n") + 1)
}

// Every whole configuration that users are shown is valid, and nothing in it should not stay as it is.
func TestConfigurationsInTheDocs(t *testing.T) {
	t.Parallel()
	all := wholeConfigurations(t)
	if len(all) < 10 {
		t.Errorf("got %d configurations, want more; is the test blind?", len(all))
	}
	authority := testcert.NewAuthority(t, "docs")
	leaf := authority.Sign(t, testcert.Want{Names: []string{"mqtt.example", "*.tenant-a.example", "mqtt.tenant-b.example"}})
	file := regexp.MustCompile(`/etc/mqttlb(?:-tls)?/([\w.-]+)`)
	for name, text := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			for _, m := range file.FindAllStringSubmatch(text, -1) {
				content := []byte("a secret of at least thirty-two bytes\n")
				switch {
				case strings.HasSuffix(m[1], ".key"):
					content = leaf.Key
				case strings.HasSuffix(m[1], ".crt"):
					content = leaf.Cert
				case strings.HasSuffix(m[1], ".pem"):
					content = authority.PEM
				}
				testcert.Write(t, folder, m[1], content)
			}
			path := testcert.Write(t, folder, "mqttlb.yaml", []byte(file.ReplaceAllString(text, folder+"/$1")))
			var out, warnings bytes.Buffer
			root := rootCommand(&environment{in: strings.NewReader(""), out: &out, err: &warnings, hostname: "docs"})
			root.SetArgs([]string{"check", "-c", path})
			if err := root.ExecuteContext(t.Context()); err != nil || warnings.Len() > 0 {
				t.Errorf("got %v\n%s", err, &warnings)
			}
		})
	}
}
