package admin

import (
	"bytes"
	"html/template"
	"net/http"
	"strings"
)

// page lists the endpoints for people.
func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	type row struct{ Method, Path, Link, About string }
	data := struct {
		Version, Instance string
		Rows              []row
	}{Version: s.options.Version, Instance: s.options.Instance}
	for _, e := range s.endpoints() {
		r := row{Method: e.method, Path: strings.TrimSuffix(e.path, "{$}"), About: e.about}
		if e.method == http.MethodGet && !strings.Contains(r.Path, "{") {
			r.Link = r.Path
		}
		data.Rows = append(data.Rows, r)
	}
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, data); err != nil {
		respond(w, nil, err)
		return
	}
	header(w, "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	_, _ = w.Write(body.Bytes())
}

// pageTemplate needs nothing from elsewhere: no script, no image, no font.
var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>mqttlb {{.Instance}}</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { margin: 2rem; }
td { padding: .1rem 1rem .1rem 0; vertical-align: top; }
</style>
<h1>mqttlb {{.Instance}}</h1>
<p>Version {{.Version}}</p>
<table>
{{- range .Rows}}
<tr><td>{{.Method}}<td><code>{{if .Link}}<a href="{{.Link}}">{{.Path}}</a>{{else}}{{.Path}}{{end}}</code><td>{{.About}}
{{- end}}
</table>
`))
