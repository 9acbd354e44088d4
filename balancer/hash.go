package balancer

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// keyedHash is a 64-bit hash that every instance with the same key computes alike. The key keeps a
// stranger from crafting client ids that all have the same home (algorithms.md, 2.5).
func keyedHash(seed uint64, s string) uint64 {
	var d xxhash.Digest // on the stack: no allocation
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(s)
	return d.Sum64()
}

// seedOf turns the configured key into a seed. An empty key is a valid key.
func seedOf(key string) uint64 { return xxhash.Sum64String(key) }

// mix is the splitmix64 finaliser: it spreads every bit of x over all bits of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// unit maps 64 bits to the open interval (0,1), so that its logarithm is always finite and not zero.
func unit(x uint64) float64 { return (float64(x>>11) + 0.5) / (1 << 53) }

// rendezvous is the weighted score of a (client, backend) pair; the smallest score wins
// (Thaler and Ravishankar 1998; the weighted form is -ln(u)/w). A backend whose weight grows only
// ever gains clients, and one that leaves loses only its own.
func rendezvous(client, backend uint64, weight float64) float64 {
	return -math.Log(unit(mix(client^backend))) / weight
}
