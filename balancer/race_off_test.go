//go:build !race

package balancer

// fewer is how many times fewer random cases the slowest tests look at.
const fewer = 1

// Fewer is fewer for the tests outside of the package.
const Fewer = fewer
