package config

import (
	"math"
	"reflect"
	"strconv"
	"strings"
)

// Rate is how often something happens per second, written 100/s.
type Rate float64

// Percent is a part of something, 0 to 1, written 5%.
type Percent float64

// Amount is a part of something, below 1, written 2%, or a number from 1 on.
type Amount float64

// String returns the amount as it is written in the file.
func (a Amount) String() string {
	if a >= 1 || a == 0 {
		return floatText(float64(a))
	}
	return Percent(a).String()
}

// String returns the part as it is written in the file.
func (p Percent) String() string {
	const digits = 1e9 // rounds away what the division by 100 has left: 7 % are not 7.000000000000001 %
	return floatText(math.Round(float64(p)*100*digits)/digits) + "%"
}

// String returns the rate as it is written in the file.
func (r Rate) String() string { return floatText(float64(r)) + "/s" }

func parseRate(v reflect.Value, l literal) (string, bool) {
	if l.text == "0" { // as for a duration: nothing is nothing in any unit
		v.SetFloat(0)
		return "", true
	}
	text := strings.ToLower(strings.Join(strings.Fields(l.text), ""))
	number, unit, _ := strings.Cut(text, "/")
	x, ok := plainNumber(number)
	if !ok {
		return "", false
	}
	switch unit {
	case "s":
		if l.text != number+"/s" {
			return Rate(x).String(), false
		}
		v.SetFloat(x)
		return "", true
	case "", "sec", "second":
		return Rate(x).String(), false
	case "m", "min", "minute":
		return "it per second, such as " + Rate(math.Ceil(x/60*100)/100).String(), false
	}
	return "", false
}

func parsePercent(v reflect.Value, l literal) (string, bool) {
	x, hint, ok := percent(l)
	if ok {
		v.SetFloat(x)
	} else if n, plain := plainNumber(l.text); plain && hint == "" {
		if n < 1 {
			n *= 100
		}
		hint = Percent(n / 100).String()
	}
	return hint, ok
}

func parseAmount(v reflect.Value, l literal) (string, bool) {
	if x, hint, ok := percent(l); ok || hint != "" {
		if ok && x >= 1 {
			return "", false // it would be one piece
		}
		v.SetFloat(x)
		return hint, ok
	}
	n, hint, ok := integer(l)
	if ok && n >= 0 {
		v.SetFloat(float64(n))
		return "", true
	}
	if x, plain := plainNumber(l.text); plain && x < 1 {
		hint = Percent(x).String()
	}
	return hint, false
}

// percent reads 5%.
func percent(l literal) (x float64, hint string, ok bool) {
	number, is := strings.CutSuffix(l.text, "%")
	if !is {
		return 0, "", false
	}
	x, ok = plainNumber(strings.TrimSpace(number))
	if !ok {
		return 0, "", false
	}
	if number != strings.TrimSpace(number) {
		return 0, strings.TrimSpace(number) + "%", false
	}
	return x / 100, "", true
}

// plainNumber reads a number of digits and at most one dot.
func plainNumber(text string) (float64, bool) {
	if strings.Trim(text, "0123456789.") != "" {
		return 0, false
	}
	x, err := strconv.ParseFloat(text, 64)
	return x, err == nil && !math.IsInf(x, 0)
}
