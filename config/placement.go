package config

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

const (
	// maxExpression bounds a regular expression. One that is longer is a list that nobody can read.
	maxExpression = 1024
	// maxProperty bounds the name of a user property.
	maxProperty = 128
)

// forgetful are the strategies that do not bring a client back to where it was.
func forgetful() []string {
	return []string{"metric-wrr", "least-connections", "round-robin", "random"}
}

func validatePlacement(path string, p *Placement, r *report) {
	if p.SessionScope == "node" && slices.Contains(forgetful(), p.Strategy) {
		r.at(path+".session_scope", "cannot be node with the strategy %s, which does not bring clients back to their broker; "+
			"write the strategy adaptive, client-hash or maglev", p.Strategy)
	}
	for i := range p.Groups {
		validateGroupRule(item(path+".groups", i), &p.Groups[i], r)
	}
}

// validateGroupRule checks that a rule has one key, and that it can be used.
func validateGroupRule(path string, g *GroupRule, r *report) {
	var given []string
	for _, key := range []struct{ name, value string }{
		{"client_id", g.ClientID}, {"username", g.Username}, {"user_property", g.UserProperty},
	} {
		if key.value != "" {
			given = append(given, key.name)
		}
	}
	if g.Learn {
		given = append(given, "learn")
	}
	switch {
	case len(given) == 0:
		r.at(path, `must have one of client_id, username, user_property or learn, such as {client_id: "^(?P<group>[a-z]+)-"}`)
		return
	case len(given) > 1:
		r.at(path, "has %s; make one rule of each, the first that matches counts", strings.Join(given, " and "))
		return
	}
	checkExpression(path+".client_id", g.ClientID, r)
	checkExpression(path+".username", g.Username, r)
	if len(g.UserProperty) > maxProperty {
		r.at(path+".user_property", "must be at most %d bytes long, got %d", maxProperty, len(g.UserProperty))
	}
}

// checkExpression checks a regular expression that says where the name of a group is.
func checkExpression(path, text string, r *report) {
	e := checkRE2(path, text, r)
	if e == nil {
		return
	}
	for _, name := range []string{"group", "ord"} {
		if e.SubexpIndex(name) != lastSubexp(e, name) {
			r.at(path, "has (?P<%s>…) more than once, got %s; make one rule of each alternative", name, literal{text: text, quoted: true}.show())
			return
		}
	}
	if e.SubexpIndex("group") < 0 {
		r.at(path, `must have (?P<group>…) around the name of the group, such as "^(?P<group>[a-z]+)-", got %s`, literal{text: text, quoted: true}.show())
	}
}

// checkRE2 checks a regular expression. It returns nil if there is none that can be used.
func checkRE2(path, text string, r *report) *regexp.Regexp {
	if text == "" {
		return nil
	}
	if len(text) > maxExpression {
		r.at(path, "must be at most %d bytes long, got %d", maxExpression, len(text))
		return nil
	}
	e, err := regexp.Compile(text)
	if err != nil {
		reason := err.Error()
		if wrong, ok := errors.AsType[*syntax.Error](err); ok {
			reason = wrong.Code.String()
			if wrong.Expr != "" {
				reason += " at " + literal{text: wrong.Expr, quoted: true}.show()
			}
		}
		r.at(path, "must be a regular expression in the syntax of RE2 (https://github.com/google/re2/wiki/Syntax), got %s: %s",
			literal{text: text, quoted: true}.show(), reason)
		return nil
	}
	return e
}

// lastSubexp is the number of the last group with this name, or -1.
func lastSubexp(e *regexp.Regexp, name string) int {
	for i, n := range slices.Backward(e.SubexpNames()) {
		if n == name {
			return i
		}
	}
	return -1
}
