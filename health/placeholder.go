package health

import (
	"fmt"
	"net"
	"strings"

	"github.com/mqttlb/mqttlb/balancer"
)

// A template is text with placeholders in braces: {instance}, and of the backend {name} {host} {port}
// {label.KEY}.
type template []part

// A part is literal text, or the name of a placeholder.
type part struct {
	text        string
	placeholder bool
}

const labelPrefix = "label."

// parseTemplate cuts a template and puts the instance in.
func parseTemplate(s, instance string) (template, error) {
	var t template
	for s != "" {
		before, rest, found := strings.Cut(s, "{")
		if before != "" {
			t = append(t, part{text: before})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		switch {
		case !closed:
			return nil, fmt.Errorf("placeholder {%s is not closed by a brace", name)
		case name == "instance":
			t = append(t, part{text: instance})
		case name == "name", name == "host", name == "port", strings.HasPrefix(name, labelPrefix) && name != labelPrefix:
			t = append(t, part{text: name, placeholder: true})
		default:
			return nil, fmt.Errorf("unknown placeholder {%s}; known are {instance} {name} {host} {port} {label.KEY}", name)
		}
		s = after
	}
	return t, nil
}

// expand fills the template in for a backend; every value goes through escape with the name of its
// placeholder.
func (t template) expand(b *balancer.Backend, escape func(name, value string) string) (string, error) {
	var text strings.Builder
	for _, p := range t {
		if !p.placeholder {
			text.WriteString(p.text)
			continue
		}
		value, err := valueOf(p.text, b)
		if err != nil {
			return "", err
		}
		text.WriteString(escape(p.text, value))
	}
	return text.String(), nil
}

func valueOf(name string, b *balancer.Backend) (string, error) {
	if key, isLabel := strings.CutPrefix(name, labelPrefix); isLabel {
		if value, ok := b.Labels[key]; ok {
			return value, nil
		}
		return "", fmt.Errorf("placeholder {%s}: the backend has no label %q", name, key)
	}
	if name == "name" {
		return b.Name, nil
	}
	host, port, err := net.SplitHostPort(b.Address)
	switch {
	case name == "host" && b.Host != "":
		return b.Host, nil
	case err != nil:
		return "", fmt.Errorf("address of the backend: %w", err)
	case name == "host":
		return host, nil
	}
	return port, nil
}
