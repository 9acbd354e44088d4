package admin

import (
	"math"
	"strconv"
	"testing"
)

func TestParseRate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text    string
		rate    float64
		message string
	}{
		{"50/s", 50, ""},
		{" 50/s\n", 50, ""},
		{"0.5/s", .5, ""},
		{".5/s", .5, ""},
		{"0.01/s", .01, ""},
		{"10000/s", 10_000, ""},
		{"10000.1/s", 0, `a rate is from 0.01/s to 10000/s, got "10000.1/s"`},
		{"0.009/s", 0, `a rate is from 0.01/s to 10000/s, got "0.009/s"`},
		{"50", 0, `a rate needs its unit, got "50"; write "50/s"`},
		{"0/s", 0, `a rate of "0/s" would never end; to stop a drain, resume the backend`},
		{"0.0/s", 0, `a rate of "0.0/s" would never end; to stop a drain, resume the backend`},
		{"", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got ""`},
		{"/s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "/s"`},
		{"./s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "./s"`},
		{"50/m", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "50/m"`},
		{"50 /s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "50 /s"`},
		{"-1/s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "-1/s"`},
		{"1e3/s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "1e3/s"`},
		{"Inf/s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "Inf/s"`},
		{"NaN/s", 0, `a rate is a number of clients per second such as "50/s" or "0.5/s", got "NaN/s"`},
	} {
		got, err := ParseRate(test.text)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if got != test.rate || message != test.message {
			t.Errorf("%q: got %v %q, want %v %q", test.text, got, message, test.rate, test.message)
		}
	}
}

// Whatever is accepted is a rate that can be carried out, and can be written in the same way again.
func FuzzParseRate(f *testing.F) {
	for _, text := range []string{"50/s", "0.5/s", "1e3/s", "9999999999999999999999/s", "", "\xff/s", "0x1p4/s", "1_0/s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rate, err := ParseRate(text)
		if err != nil {
			if rate != 0 || err.Error() == "" {
				t.Errorf("%q: got %v with error %q", text, rate, err)
			}
			return
		}
		if rate < minRate || rate > maxRate || math.IsNaN(rate) {
			t.Fatalf("%q: got %v", text, rate)
		}
		if again, err := ParseRate(strconv.FormatFloat(rate, 'f', -1, 64) + "/s"); err != nil || again != rate {
			t.Errorf("%q: got %v, and from that %v (error %v)", text, rate, again, err)
		}
	})
}
