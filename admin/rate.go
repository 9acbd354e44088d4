package admin

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The limits of a rate are those of drain.rate in the configuration.
const (
	minRate = 0.01
	maxRate = 10_000
)

// ParseRate reads a number of clients per second such as 50/s or 0.5/s, as in the configuration.
func ParseRate(text string) (perSecond float64, err error) {
	number, perUnit := strings.CutSuffix(strings.TrimSpace(text), "/s")
	// What ParseFloat knows beyond decimal digits (1e3, 0x1p4, Inf, 1_000) nobody means.
	plain := number != "" && strings.Trim(number, "0123456789.") == ""
	perSecond, err = strconv.ParseFloat(number, 64)
	switch {
	case err == nil && plain && !perUnit:
		return 0, fmt.Errorf("a rate needs its unit, got %q; write %q", text, number+"/s")
	case err != nil || !plain || !perUnit || math.IsInf(perSecond, 0):
		return 0, fmt.Errorf("a rate is a number of clients per second such as \"50/s\" or \"0.5/s\", got %q", text)
	case perSecond == 0:
		return 0, fmt.Errorf("a rate of %q would never end; to stop a drain, resume the backend", text)
	case perSecond < minRate || perSecond > maxRate:
		return 0, fmt.Errorf("a rate is from %v/s to %v/s, got %q", minRate, maxRate, text)
	}
	return perSecond, nil
}
