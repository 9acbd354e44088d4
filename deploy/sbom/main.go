// Command sbom prints the software bill of materials of a Go binary, as CycloneDX 1.5 in JSON: the modules, with the
// versions and checksums that the linker has recorded, and not those that a file in the source asks for.
//
//	go run ./deploy/sbom mqttlb v1.2.3 > mqttlb.cdx.json
package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1) //nolint:forbidigo // it is a main function
	}
}

func run(args []string, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("usage: sbom BINARY VERSION")
	}
	info, err := buildinfo.ReadFile(args[0])
	if err != nil {
		return err
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(billOf(info, args[1]))
}

// A bill is the part of CycloneDX that is used here: https://cyclonedx.org/docs/1.5/json/.
type bill struct {
	Format      string      `json:"bomFormat"`
	SpecVersion string      `json:"specVersion"`
	Version     int         `json:"version"`
	Metadata    metadata    `json:"metadata"`
	Components  []component `json:"components"`
}

type metadata struct {
	Component component `json:"component"`
}

type component struct {
	Ref     string `json:"bom-ref"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Hashes  []hash `json:"hashes,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

// billOf lists what is in a binary: the standard library, and every module as it was used, replacements included. Nothing
// in it depends on the time, so the same binary has the same bill. The binary does not tell its version: -trimpath leaves
// out the flags of the linker.
func billOf(info *debug.BuildInfo, version string) bill {
	b := bill{Format: "CycloneDX", SpecVersion: "1.5", Version: 1}
	info.Main.Version = version
	b.Metadata.Component = componentOf(&info.Main, "application")
	b.Components = append(b.Components, componentOf(&debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}, "library"))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Components = append(b.Components, componentOf(m, "library"))
	}
	return b
}

func componentOf(m *debug.Module, kind string) component {
	purl := "pkg:golang/" + m.Path + "@" + m.Version
	c := component{Ref: purl, Type: kind, Name: m.Path, Version: m.Version, PURL: purl}
	// h1 is a SHA-256 over the list of a module's files with their own (golang.org/x/mod/sumdb/dirhash).
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) > 0 {
		c.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
	}
	return c
}
