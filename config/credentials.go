package config

import (
	"reflect"
	"strings"
)

// credentialsVariable stands in paths of files for the folder in which systemd shows a service what its unit names with
// LoadCredential= (systemd.exec(5)).
const credentialsVariable = "${CREDENTIALS_DIRECTORY}"

// expandPaths puts the folder of the credentials into the paths of files.
func expandPaths(cfg *Config, opts Options, r *report) {
	visit(reflect.ValueOf(cfg).Elem(), "", func(path string, f field, v reflect.Value) {
		if !f.file || !strings.Contains(v.String(), "$") {
			return
		}
		rest, begins := strings.CutPrefix(v.String(), credentialsVariable+"/")
		switch {
		case strings.Contains(rest, "${") || !begins && strings.Contains(v.String(), "${"):
			r.at(path, "has a ${…} that means nothing here, got %s; a path can only begin with %s/, everything else is written out",
				literal{text: v.String(), quoted: true}.show(), credentialsVariable)
		case begins && opts.Credentials == "":
			r.at(path, "is in %s, which is not set; systemd sets it for a service whose unit says LoadCredential=%s:FILE",
				credentialsVariable, rest)
		case begins:
			v.SetString(strings.TrimSuffix(opts.Credentials, "/") + "/" + rest)
		}
	})
}
