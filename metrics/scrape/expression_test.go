package scrape

import (
	"fmt"
	"strings"
	"testing"
)

func TestExpression(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{`up`, `up`},
		{` a:b_9 `, `a:b_9`},
		{`rate`, `rate`}, // a metric may be called so
		{`rate{a="b"}`, `rate{a="b"}`},
		{`rate(x)`, `rate(x)`},
		{"rate ( x { } ) / y", `rate(x)/y`},
		{`a/b/c/d`, `a/b/c/d`},
		{`a{b="",}`, `a{b=""}`},
		{`a{b="1", c!="2" ,d=~"3.*",e!~"4|5"}`, `a{b="1",c!="2",d=~"3.*",e!~"4|5"}`},
		{`a{b="\\ \" \n {}/,"}`, `a{b="\\ \" \n {}/,"}`},
	} {
		e, err := parseExpression(test.text)
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if got := print(e); got != test.want {
			t.Errorf("%s: got %s, want %s", test.text, got, test.want)
		}
	}
}

func TestExpressionErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{``, `"", character 1: the name of a metric is missing`},
		{`a /`, `"a /", character 4: the name of a metric is missing`},
		{`a / 100`, `"a / 100", character 5: a number is no metric; scale says which value means fully loaded`},
		{`-a`, `"-a", character 1: the name of a metric must stand here, got "-a"`},
		{`a b`, `"a b", character 3: got "b"; a metric is NAME, NAME{LABEL="VALUE"} or rate(NAME), and such may be divided by /`},
		{`a + b`, `"a + b", character 3: the only operator is /; figures are added by writing several, with their weights`},
		{`a[5m]`, `"a[5m]", character 2: a range is of no use here; write rate(METRIC) for a counter, window is the time of the mean`},
		{`sum(a)`, `"sum(a)", character 1: unknown function sum; write METRIC, whose series are summed, or rate(METRIC)`},
		{`rate(a[5m])`, `"rate(a[5m])", character 7: a rate has no range here: it is taken from one scrape to the next; write rate(METRIC)`},
		{`rate(a`, `"rate(a", character 7: the ) of rate( is missing`},
		{`rate()`, `"rate()", character 6: the name of a metric must stand here, got ")"`},
		{`a{b}`, `"a{b}", character 4: one of = != =~ !~ must follow the label b`},
		{`a{="c"}`, `"a{=\"c\"}", character 3: the name of a label must stand here: {LABEL="VALUE"}`},
		{`a{b=c}`, `"a{b=c}", character 5: the value of a label must stand in double quotes`},
		{`a{b="c}`, `"a{b=\"c}", character 8: the double quote after the value of a label is missing`},
		{`a{b="\`, `"a{b=\"\\", character 7: the value of a label ends within an escape`},
		{`a{b="\d"}`, `"a{b=\"\\d\"}", character 7: only \\ \" and \n are escapes; a backslash is \\`},
		{`a{b="c" d="e"}`, `"a{b=\"c\" d=\"e\"}", character 9: a comma or } must follow the value of label b`},
		{`a{b=~"("}`, "\"a{b=~\\\"(\\\"}\", character 9: the pattern for the label b is none: error parsing regexp: missing closing ): `^(?s:()$`"},
		{`a/b/c/d/e`, `"a/b/c/d/e", character 9: more than 4 terms; several figures can be written instead`},
		{`a{` + strings.Repeat(`b="c",`, maxMatchers+1) + `}`, `more than 16 conditions`},
		{strings.Repeat("a", maxExpression+1), `is 1025 bytes long, the most is 1024`},
	} {
		_, err := parseExpression(test.text)
		if err == nil || !strings.HasSuffix(err.Error(), test.want) {
			t.Errorf("%s:\n got %v\nwant %s", test.text, err, test.want)
		}
	}
}

func TestSelects(t *testing.T) {
	t.Parallel()
	labels := []label{{"cpu", "0"}, {"mode", "idle\nx"}}
	for _, test := range []struct {
		matchers string
		want     bool
	}{
		{``, true},
		{`cpu="0"`, true},
		{`cpu="1"`, false},
		{`cpu!="1"`, true},
		{`cpu!="0"`, false},
		{`cpu=~"[01]"`, true},
		{`cpu=~""`, false},        // patterns fit whole values
		{`mode=~"idle"`, false},   // on both sides
		{`mode=~"idle.x"`, true},  // a dot is any character
		{`mode!~"idle.*"`, false}, //
		{`other=""`, true},        // a label that is missing is empty
		{`other!="x"`, true},      //
		{`other=~".+"`, false},    //
		{`cpu="0",mode!~"a|b"`, true},
		{`cpu="0",mode=~"a|b"`, false},
	} {
		e, err := parseExpression("m{" + test.matchers + "}")
		if err != nil {
			t.Fatal(err)
		}
		if got := e.terms[0].selects(labels); got != test.want {
			t.Errorf("{%s}: got %t, want %t", test.matchers, got, test.want)
		}
	}
}

// print writes an expression without blanks.
func print(e *expression) string {
	var terms []string
	for _, t := range e.terms {
		text := t.name
		var matchers []string
		for _, m := range t.matchers {
			operator := "="
			switch {
			case m.pattern != nil && m.negate:
				operator = "!~"
			case m.pattern != nil:
				operator = "=~"
			case m.negate:
				operator = "!="
			}
			value := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(m.value)
			matchers = append(matchers, fmt.Sprintf(`%s%s"%s"`, m.label, operator, value))
		}
		if matchers != nil {
			text += "{" + strings.Join(matchers, ",") + "}"
		}
		if t.rate {
			text = "rate(" + text + ")"
		}
		terms = append(terms, text)
	}
	return strings.Join(terms, "/")
}

// FuzzExpression: what is accepted is within the bounds, and means the same when it is printed and read
// again.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{
		`a`, `rate(a{b="c"})/d`, `a{b=~"x|y",c!~"\\d+",}`, `rate(a[5m])`, `a{b="\"`, `sum(a)`, "a{b=\"\xff\"}", `a / 3`,
		`rate(node_cpu_seconds_total{mode!~"idle|iowait"}) / rate(node_cpu_seconds_total)`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpression(text)
		if err != nil {
			if err.Error() == "" || len(err.Error()) > 10*maxExpression {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			return
		}
		if len(e.terms) == 0 || len(e.terms) > maxTerms {
			t.Errorf("%d terms", len(e.terms))
		}
		once := print(e)
		if len(once) > maxExpression {
			return // escapes were spelled out
		}
		again, err := parseExpression(once)
		if err != nil {
			t.Fatalf("%q was accepted, but not %q: %v", text, once, err)
		}
		if twice := print(again); twice != once {
			t.Errorf("%q: got %q, then %q", text, once, twice)
		}
	})
}
