package config

import "strings"

// Nearest is for names beyond those of keys: it returns the candidate that word was probably meant to be, or "" when
// none is near.
func Nearest(word string, candidates []string) string { return nearest(word, candidates) }

// nearest returns the candidate that word was probably meant to be, or "" when
// none is near: one slip for every three characters is forgiven, and a word
// that was cut short or has something added.
func nearest(word string, candidates []string) string {
	const longest = 64 // no name of ours is longer, and the time is quadratic
	word = normal(word)
	if len(word) > longest {
		return ""
	}
	best, least := "", longest
	for _, c := range candidates {
		if len(c) > longest {
			continue
		}
		if d := distance(word, normal(c)); d < least && d <= max(1, max(len(word), len(c))/3) {
			best, least = c, d
		}
	}
	for i, c := range candidates {
		if c := normal(c); best == "" && min(len(c), len(word)) >= 3 && (strings.HasPrefix(c, word) || strings.HasPrefix(word, c)) {
			best = candidates[i]
		}
	}
	return best
}

// normal undoes differences of spelling that nobody means.
func normal(word string) string {
	return strings.ReplaceAll(strings.ToLower(word), "-", "_")
}

// distance returns how many characters must be inserted, deleted, replaced or
// swapped with their neighbour to turn a into b (optimal string alignment).
func distance(a, b string) int {
	before := make([]int, len(b)+1) // two rows above
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// oneOfWords returns "a", "a or b", "a, b or c".
func oneOfWords(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}
