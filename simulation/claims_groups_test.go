package simulation

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestClaimGroupArrivals(t *testing.T) { prove(t, groupArrivals) }
func TestClaimGroupLeases(t *testing.T)   { prove(t, groupLeases) }
func TestClaimGroupRepair(t *testing.T)   { prove(t, groupRepair) }
func TestClaimSmallGroups(t *testing.T)   { prove(t, smallGroups) }
func TestClaimInstances(t *testing.T)     { prove(t, instances) }

// groupColumns are who is compared where clients only arrive and leave.
func groupColumns() []string {
	return []string{"mqttlb", "round robin", "least connections", "plain hash"}
}

// A seater places clients as one of groupColumns does.
type seater struct {
	place   func(c balancer.Client, now int64) int
	release func(c balancer.Client, backend int, now int64)
}

// seaters are instance l of so many of each of groupColumns, over these backends.
func seaters(set []balancer.Backend, seed uint64, l, instances int) []seater {
	key := strconv.FormatUint(seed, 10)
	brain := must(balancer.NewBrain(balancer.BrainOptions{
		Key: key, Placement: balancer.Options{BoundedLoad: 1.25, Seed: seed},
		Groups: balancer.GroupOptions{Instance: l, Instances: instances},
	}, 1))
	brain.Join(set, 1)
	out := []seater{{
		place: func(c balancer.Client, now int64) int {
			i, _ := brain.Place(c, nil, now)
			return i
		},
		release: func(c balancer.Client, backend int, now int64) {
			brain.Release(c, brain.Snapshot().Backends[backend].Name, balancer.Left, now)
		},
	}}
	for _, name := range []string{"round-robin", "least-connections", "client-hash"} {
		strategy := must(balancer.New(name, balancer.Options{Seed: seed + uint64(l)<<32}))
		s := balancer.NewSnapshot(1, key, set)
		seats := balancer.NewSeats(s)
		out = append(out, seater{
			place: func(c balancer.Client, _ int64) int {
				i, _ := strategy.Pick(c, s, seats)
				seats.Take(i)
				return i
			},
			release: func(_ balancer.Client, backend int, _ int64) {
				seats.Live[backend]--
				seats.Total--
			},
		})
	}
	return out
}

// equal returns n backends of the same size.
func equal(n int) []balancer.Backend {
	set := make([]balancer.Backend, n)
	for i := range set {
		set[i].Name = "broker-" + string(rune('a'+i)) // snapshots sort by name
	}
	return set
}

// weighted returns up to 15 backends of all kinds of sizes, and their shares.
func weighted(random *rand.Rand) (set []balancer.Backend, shares []float64) {
	set = equal(2 + random.IntN(14))
	kind, total := random.IntN(4), 0.0
	for i := range set {
		set[i].Capacity = []float64{
			1, 0.2 + random.Float64(), min(30, 1/(1-random.Float64())), float64(1+random.IntN(9)) / 10,
		}[kind]
		total += set[i].Capacity
	}
	for i := range set {
		shares = append(shares, set[i].Capacity/total)
	}
	return set, shares
}

// member is member k of a group.
func member(group, k int) balancer.Client {
	g := "group-" + strconv.Itoa(group)
	return balancer.Client{ID: g + "-" + strconv.Itoa(k), Group: g, Ordinal: -1}
}

var groupArrivals = sync.OnceValue(func() claim {
	const groups, size, others = 10, 30, 300
	worst := make([]float64, len(groupColumns()))
	for run := range times(60) {
		random := rand.New(rand.NewPCG(uint64(run), 21))
		set, shares := weighted(random)
		order := random.Perm(groups*size + others)
		for k, s := range seaters(set, uint64(run), 0, 1) {
			counts := make([][]int, groups)
			for g := range counts {
				counts[g] = make([]int, len(set))
			}
			for _, m := range order {
				if m >= groups*size {
					s.place(balancer.Client{ID: "device-" + strconv.Itoa(m)}, 1)
					continue
				}
				at := counts[m%groups]
				at[s.place(member(m%groups, m/groups), 1)]++
				members := 0
				for _, n := range at {
					members += n
				}
				for b, n := range at {
					worst[k] = max(worst[k], math.Abs(float64(n)-float64(members)*shares[b]))
				}
			}
		}
	}
	return claim{
		test:    "TestClaimGroupArrivals",
		says:    "While consumers of a group arrive, no broker is more than one of them off its share",
		model:   "10 groups of 30 and 300 other clients arrive in random order at 2 to 15 brokers of equal or unequal size, 60 times.",
		columns: groupColumns(),
		figures: []figure{{what: "worst difference between a broker's members and its share", decimals: 2, limit: 1, values: worst}},
	}
})

var groupLeases = sync.OnceValue(func() claim {
	const groups, size = 20, 40
	var kept [2][]float64
	for p, part := range []float64{0.3, 1} {
		kept[p] = make([]float64, len(groupColumns()))
		runs := times(5)
		for run := range runs {
			random := rand.New(rand.NewPCG(uint64(run), 22))
			order := random.Perm(groups * size)
			again := random.Perm(int(part * groups * size))
			for k, s := range seaters(equal(6), uint64(run), 0, 1) {
				at := make([]int, groups*size)
				for _, m := range order {
					at[m] = s.place(member(m/size, m), second)
				}
				for m := range again {
					s.release(member(order[m]/size, order[m]), at[order[m]], 2*second)
				}
				for _, m := range again {
					if s.place(member(order[m]/size, order[m]), 30*second) == at[order[m]] {
						kept[p][k] += 100 / float64(len(again)*runs)
					}
				}
			}
		}
	}
	return claim{
		test:    "TestClaimGroupLeases",
		says:    "A consumer that is back within the lease has its broker again, whoever else was away",
		model:   "20 groups of 40 over 6 brokers; a part of them drops at once and is back after 28 s in another order. A hash does this as well; what it does not do is spread the group.",
		columns: groupColumns(),
		figures: []figure{
			{what: "back on the same broker, after 30 % dropped", unit: " %", limit: 100, least: true, values: kept[0]},
			{what: "after all dropped", unit: " %", limit: 100, least: true, values: kept[1]},
		},
	}
})

var groupRepair = sync.OnceValue(func() claim {
	random := rand.New(rand.NewPCG(1, 23))
	longer := 0.0
	for range times(1500) {
		set, _ := weighted(random)
		set = set[:min(len(set), 5)]
		s := balancer.NewSnapshot(1, "key", set)
		counts := make([]int, len(set))
		for i := range counts {
			counts[i] = random.IntN(9)
		}
		g, seats := balancer.NewGroups(balancer.GroupOptions{}), balancer.NewSeats(s)
		crowd(g, s, seats, counts)
		if len(g.Repair(s, seats, 1)) != fewestMoves(counts, s) {
			longer++
		}
	}
	c := claim{
		test:    "TestClaimGroupRepair",
		says:    "Repairing a group moves as few consumers as possible",
		model:   "Groups of up to 40 over 2 to 5 brokers, seated at random, against the shortest plan that trying everything finds; then groups on 6 brokers when a seventh joins.",
		columns: []string{"mqttlb", "plain hash", "number of the consumer modulo brokers"},
		figures: []figure{{
			what: "of 1500 plans, those that are longer than needed", limit: 0, values: []float64{longer, absent(), absent()},
		}},
	}
	for _, k := range []struct{ members, least int }{{12, 1}, {40, 5}, {120, 17}} {
		moved := joinMoves(k.members, times(20))
		c.figures = append(c.figures, figure{
			what:     strconv.Itoa(k.members) + " consumers, moved by the join; at least " + strconv.Itoa(k.least),
			decimals: 1, limit: float64(k.least), values: moved,
		})
	}
	return c
})

// joinMoves is how many of so many members move when a seventh backend joins, in the mean.
func joinMoves(members, runs int) []float64 {
	moved := make([]float64, 3)
	for run := range runs {
		key := strconv.Itoa(run)
		old, grown := balancer.NewSnapshot(1, key, equal(6)), balancer.NewSnapshot(2, key, equal(7))
		g, seats := balancer.NewGroups(balancer.GroupOptions{}), balancer.NewSeats(old)
		hash := must(balancer.New("client-hash", balancer.Options{}))
		for k := range members {
			i, _ := g.Place(member(0, k), old, seats, 1)
			seats.Take(i)
			a, _ := hash.Pick(member(0, k), old, seats)
			b, _ := hash.Pick(member(0, k), grown, balancer.NewSeats(grown))
			if a != b {
				moved[1] += 1 / float64(runs)
			}
			if k%6 != k%7 {
				moved[2] += 1 / float64(runs)
			}
		}
		seats = &balancer.Seats{Live: append(seats.Live, 0), Total: seats.Total}
		moved[0] += float64(len(g.Repair(grown, seats, 1))) / float64(runs)
	}
	return moved
}

// crowd seats counts[i] members of a group on backend i.
func crowd(g *balancer.Groups, s *balancer.Snapshot, seats *balancer.Seats, counts []int) {
	k := 0
	for i, n := range counts {
		seats.Tried = nil
		for other := range counts {
			if other != i {
				seats.Tried = append(seats.Tried, other)
			}
		}
		for range n {
			g.Place(member(0, k), s, seats, 1)
			seats.Take(i)
			k++
		}
	}
	seats.Tried = nil
}

// fewestMoves tries every distribution within quota and counts the members that must go for it.
func fewestMoves(counts []int, s *balancer.Snapshot) int {
	total := 0
	for _, n := range counts {
		total += n
	}
	best := math.MaxInt
	var try func(i, left, moves int)
	try = func(i, left, moves int) {
		if i == len(counts) {
			if left == 0 {
				best = min(best, moves)
			}
			return
		}
		share := float64(total) * s.Share(i)
		for n := int(math.Floor(share + 1e-9)); n <= int(math.Ceil(share-1e-9)); n++ {
			try(i+1, left-n, moves+max(0, counts[i]-n))
		}
	}
	try(0, total, 0)
	return best
}

var smallGroups = sync.OnceValue(func() claim {
	const groups, size = 1000, 2
	ratio, together := make([]float64, len(groupColumns())), make([]float64, len(groupColumns()))
	for run := range times(5) {
		order := rand.New(rand.NewPCG(uint64(run), 24)).Perm(groups * size)
		for k, s := range seaters(equal(6), uint64(run), 0, 1) {
			var total [6]int
			at := make([]int, groups)
			for g := range at {
				at[g] = -1
			}
			meet := 0.0
			for _, m := range order {
				b := s.place(member(m/size, m), 1)
				total[b]++
				if at[m/size] == b {
					meet++
				}
				at[m/size] = b
			}
			ratio[k] = max(ratio[k], float64(slices.Max(total[:]))*6/(groups*size))
			together[k] = max(together[k], meet)
		}
	}
	return claim{
		test:    "TestClaimSmallGroups",
		says:    "A thousand pairs are spread, and their sum is even as well",
		model:   "1000 groups of 2 arrive in random order at 6 brokers; the worst of 5 runs.",
		columns: groupColumns(),
		figures: []figure{
			{what: "pairs that meet on one broker", limit: 0, values: together},
			{what: "fullest broker, in terms of the mean", decimals: 2, limit: 1.05, values: ratio},
		},
	}
})

var instances = sync.OnceValue(func() claim {
	const many = 4
	c := claim{
		test:    "TestClaimInstances",
		says:    "Four balancers without shared state spread a group nearly as well as one",
		model:   "200 groups, whose members arrive in random order at a random one of four instances, over 6 brokers. Over-share: members on the fullest broker above the share. The others know no groups, so one instance or four is the same to them.",
		columns: groupColumns(),
	}
	for _, size := range []struct {
		members     int
		mean, worst float64
	}{{12, 0.94, 2}, {100, 0.80, 1.34}, {6, 0.92, 1}} {
		const groups = 200
		runs := times(1)
		mean, worst := make([]float64, len(c.columns)), make([]float64, len(c.columns))
		for run := range runs {
			random := rand.New(rand.NewPCG(uint64(run), 25))
			var sides [many][]seater
			for l := range sides {
				sides[l] = seaters(equal(6), uint64(run), l, many)
			}
			order, side := random.Perm(groups*size.members), make([]int, groups*size.members)
			for m := range side {
				side[m] = random.IntN(many)
			}
			for k := range c.columns {
				counts := make([][6]int, groups)
				for _, m := range order {
					counts[m%groups][sides[side[m]][k].place(member(m%groups, m), 1)]++
				}
				for g := range counts {
					over := float64(slices.Max(counts[g][:])) - float64(size.members)/6
					mean[k] += over / float64(groups*runs)
					worst[k] = max(worst[k], over)
				}
			}
		}
		c.figures = append(c.figures,
			figure{what: strconv.Itoa(size.members) + " members: mean over-share", decimals: 2, limit: size.mean, values: mean},
			figure{what: "worst", decimals: 2, limit: size.worst, values: worst},
		)
	}
	return c
})
