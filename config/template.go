package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

const (
	// maxURL bounds addresses of health checks and metrics; brokers have shorter ones.
	maxURL = 2048
	// maxTLV bounds the text of one custom value. The whole header must stay
	// below 500 bytes, because some brokers read no longer one.
	maxTLV = 128
	// maxClientID bounds the client id of a probe, before its placeholders are
	// filled in. Brokers may allow no more than 65535 bytes, and some far less.
	maxClientID = 256
)

// anyLabel stands for the label of any name among placeholders.
const anyLabel = "label.KEY"

// valuePlaceholders are what a custom value of a PROXY header may refer to.
func valuePlaceholders() []string {
	return []string{"instance", "listener", "client_id", "group", "strategy", "attempt"}
}

// backendPlaceholders are what a URL of a backend may refer to.
func backendPlaceholders() []string { return []string{"host", "port", "name", anyLabel} }

// probePlaceholders are what the settings of a probe may refer to.
func probePlaceholders() []string { return append(backendPlaceholders(), "instance") }

// checkValue checks a custom value of a PROXY header.
func checkValue(path, text string, r *report) {
	if checkText(path, text, maxTLV, "brokers show these values as text", r) {
		checkTemplate(path, text, valuePlaceholders(), r)
	}
}

// checkClientID checks the client id of a probe.
func checkClientID(path, text string, r *report) {
	if checkText(path, text, maxClientID, "brokers show it as text", r) {
		checkTemplate(path, text, probePlaceholders(), r)
	}
}

// checkURL checks an http or https URL with placeholders.
func checkURL(path, text, example string, placeholders []string, r *report) {
	if !checkText(path, text, maxURL, "no URL does", r) || !checkTemplate(path, text, placeholders, r) {
		return
	}
	shown := literal{text: text, quoted: true}.show()
	u, err := url.Parse(filled(text))
	switch {
	case err != nil:
		if wrong, ok := errors.AsType[*url.Error](err); ok {
			err = wrong.Err
		}
		r.at(path, "must be a URL such as %s, got %s: %v", example, shown, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		r.at(path, "must be a URL such as %s, got %s", example, shown)
	case u.User != nil:
		r.at(path, "must not contain a user name or a password; they would end up in logs")
	}
}

// checkText checks that a text is neither empty nor too long, and can be shown.
func checkText(path, text string, most int, why string, r *report) bool {
	if text == "" || len(text) > most {
		r.at(path, "must be 1..%d bytes long, got %d", most, len(text))
		return false
	}
	for _, c := range text {
		if !unicode.IsPrint(c) {
			r.at(path, "must not contain %q; %s", c, why)
			return false
		}
	}
	return true
}

// filled returns a template with its placeholders replaced by something that
// may be a host, a port or a part of a path.
func filled(text string) string {
	var b strings.Builder
	for {
		before, after, opened := strings.Cut(text, "{")
		b.WriteString(before)
		if !opened {
			return b.String()
		}
		b.WriteByte('1')
		_, text, _ = strings.Cut(after, "}")
	}
}

// checkTemplate checks a text with placeholders.
func checkTemplate(path, text string, placeholders []string, r *report) bool {
	list := "{" + strings.Join(placeholders, "} {") + "}"
	shown := literal{text: text, quoted: true}.show()
	for rest := text; ; {
		before, after, opened := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			r.at(path, "has a } without a { before it, got %s; the placeholders are %s", shown, list)
			return false
		}
		if !opened {
			return true
		}
		word, behind, closed := strings.Cut(after, "}")
		if !closed {
			r.at(path, "has a { without a } after it, got %s; the placeholders are %s", shown, list)
			return false
		}
		if !isPlaceholder(word, placeholders) {
			hint := "the placeholders are " + list
			if meant := nearest(word, placeholders); meant != "" {
				hint = fmt.Sprintf("did you mean {%s}?", meant)
			}
			r.at(path, "has the unknown placeholder {%s}; %s", word, hint)
			return false
		}
		rest = behind
	}
}

func isPlaceholder(word string, placeholders []string) bool {
	if key, ok := strings.CutPrefix(word, "label."); ok && key != "" {
		return slices.Contains(placeholders, anyLabel)
	}
	return slices.Contains(placeholders, word)
}
