//go:build !race

package simulation

// raced tells that the race detector is on.
const raced = false
