//go:build race

package balancer

// fewer is how many times fewer random cases the slowest tests look at under the race detector: there is nothing here to
// race, and everything takes ten times as long.
const fewer = 4

// Fewer is fewer for the tests outside of the package.
const Fewer = fewer
