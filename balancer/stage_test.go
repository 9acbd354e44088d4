package balancer_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/mqttlb/mqttlb/balancer"
)

const second = int64(1e9)

// A stage is the world of one script.
type stage struct {
	t        *testing.T
	key      string
	set      []balancer.Backend
	snapshot *balancer.Snapshot
	strategy balancer.Strategy
	heavy    *balancer.Heavy
	groups   *balancer.Groups // nil until the script wants them
	live     map[string]int
	at       map[string]string // the last backend of a client
	tried    []string
	now      int64
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{t: t, live: make(map[string]int), at: make(map[string]string), snapshot: balancer.NewSnapshot(0, "", nil)}
	s.choose("client-hash", nil)
	return s
}

// execute runs one command and returns what it prints.
func (s *stage) execute(line string) string {
	s.t.Helper()
	name, args := strings.Fields(line)[0], strings.Fields(line)[1:]
	options := make(map[string]string)
	for _, a := range args {
		if k, v, ok := strings.Cut(a, "="); ok {
			options[k] = v
		}
	}
	client := balancer.Client{
		ID: options["client"], Ordinal: -1, Group: options["group"], Persistent: options["persistent"] == "yes",
	}
	if options["ordinal"] != "" {
		client.Ordinal = s.number(options["ordinal"])
	}
	var out bytes.Buffer
	switch name {
	case "key":
		s.key = args[0]
		s.publish()
	case "strategy":
		s.choose(args[0], options)
	case "backends":
		s.membership(args)
	case "phase":
		s.backend(args[0]).Phase = s.phase(args[1])
		s.publish()
	case "ramp":
		s.backend(args[0]).Ramp = s.float(args[1])
		s.publish()
	case "version":
		s.backend(args[0]).Labels = map[string]string{balancer.VersionLabel: args[1]}
		s.publish()
	case "live":
		for k, v := range options {
			s.backend(k)
			s.live[k] = s.number(v)
		}
	case "tried":
		s.tried = args
	case "state":
		s.enter(args[0], options["target"])
	case "forecast":
		s.forecast(options)
	case "heavy":
		s.heavy.Note(client.ID, options["on"], s.float(options["rate"]))
	case "groups":
		s.groups = balancer.NewGroups(balancer.GroupOptions{
			Hold: int64(s.number(options["hold"])) * second, Ordinals: options["ordinals"] == "on", Fallback: s.strategy,
		})
	case "wait":
		s.now += int64(s.number(args[0])) * second
	case "pick", "place":
		for range max(1, s.number(options["times"])) {
			fmt.Fprintln(&out, s.place(client, name == "place"))
		}
	case "leave":
		s.leave(client)
	case "preview":
		fmt.Fprintln(&out, s.decision(s.preview(client, s.seats())))
	case "order":
		s.order(&out, client)
	case "spread":
		s.spread(&out, options["prefix"], s.number(options["n"]))
	case "show":
		s.show(&out)
	default:
		s.t.Fatalf("unknown command %q", line)
	}
	return out.String()
}

func (s *stage) choose(name string, options map[string]string) {
	s.t.Helper()
	s.heavy, s.groups = balancer.NewHeavy(balancer.HeavyOptions{}), nil
	st, err := balancer.New(name, balancer.Options{
		BoundedLoad: s.float(options["bound"]), Anonymous: options["anonymous"], Seed: uint64(s.number(options["seed"])),
		NodeScope: options["scope"] == "node", Heavy: s.heavy,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.strategy = st
}

func (s *stage) enter(state, target string) {
	s.t.Helper()
	f, err := balancer.ParseForce(state)
	if err != nil {
		s.t.Fatal(err)
	}
	a, ok := s.strategy.(*balancer.Adaptive)
	if !ok {
		s.t.Fatal("only adaptive has states")
	}
	a.Enter(balancer.State{Cluster: f.State, Target: target})
}

func (s *stage) forecast(figures map[string]string) {
	s.t.Helper()
	f := &balancer.Forecast{At: s.now, Traffic: 1000, Cost: 0.5 / 1000}
	for i := range s.snapshot.Backends {
		name := s.snapshot.Backends[i].Name
		factor, load, _ := strings.Cut(figures[name], "/")
		f.Backends = append(f.Backends, balancer.BackendForecast{Name: name, Factor: s.float(factor), Load: s.float(load), Measured: true})
	}
	follower, ok := s.strategy.(balancer.Follower)
	if !ok {
		s.t.Fatal("the strategy follows no forecasts")
	}
	follower.Follow(f)
}

// place decides and, if it is to count, counts the client.
func (s *stage) place(c balancer.Client, count bool) string {
	var i int
	var why balancer.Reason
	switch {
	case s.groups == nil:
		i, why = s.strategy.Pick(c, s.snapshot, s.seats())
	case count:
		i, why = s.groups.Place(c, s.snapshot, s.seats(), s.now)
	default:
		i, why = s.preview(c, s.seats())
	}
	if count && i >= 0 {
		name := s.snapshot.Backends[i].Name
		s.live[name]++
		s.at[c.ID] = name
		s.heavy.Took(c.ID, name)
	}
	return s.decision(i, why)
}

func (s *stage) leave(c balancer.Client) {
	s.t.Helper()
	name, ok := s.at[c.ID]
	if !ok {
		s.t.Fatalf("client %q is not there", c.ID)
	}
	delete(s.at, c.ID)
	s.live[name]--
	s.heavy.Gone(c.ID, name, s.now)
	if s.groups != nil {
		s.groups.Release(c, name, balancer.Left, s.now)
	}
}

func (s *stage) preview(c balancer.Client, seats *balancer.Seats) (int, balancer.Reason) {
	if s.groups != nil {
		return s.groups.Preview(c, s.snapshot, seats, s.now)
	}
	return balancer.Preview(s.strategy, c, s.snapshot, seats)
}

func (s *stage) membership(args []string) {
	s.t.Helper()
	s.set = nil
	for _, a := range args {
		a, address, _ := strings.Cut(a, "@")
		name, capacity, _ := strings.Cut(a, ":")
		s.set = append(s.set, balancer.Backend{Name: name, Capacity: s.float(capacity), Address: address})
	}
	s.publish()
}

func (s *stage) publish() { s.snapshot = balancer.NewSnapshot(s.snapshot.Generation+1, s.key, s.set) }

func (s *stage) seats() *balancer.Seats {
	seats := balancer.NewSeats(s.snapshot)
	for i := range s.snapshot.Backends {
		for range s.live[s.snapshot.Backends[i].Name] {
			seats.Take(i)
		}
	}
	for _, name := range s.tried {
		seats.Tried = append(seats.Tried, s.snapshot.Index(name))
	}
	return seats
}

func (s *stage) decision(i int, why balancer.Reason) string {
	name := "-"
	if i >= 0 {
		name = s.snapshot.Backends[i].Name
	}
	return fmt.Sprintf("%s  %s/%s: %s", name, why.Strategy, why.Cause, why)
}

func (s *stage) order(out *bytes.Buffer, c balancer.Client) {
	seats := s.seats()
	for {
		i, why := s.preview(c, seats)
		fmt.Fprintln(out, s.decision(i, why))
		if i < 0 {
			return
		}
		seats.Tried = append(seats.Tried, i)
	}
}

func (s *stage) spread(out *bytes.Buffer, prefix string, n int) {
	counts := make(map[string]int)
	for k := range n {
		i, why := s.strategy.Pick(balancer.Client{ID: prefix + strconv.Itoa(k)}, s.snapshot, s.seats())
		counts[s.snapshot.Backends[i].Name+" "+why.Cause.String()]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range s.snapshot.Backends {
		name := s.snapshot.Backends[i].Name
		for _, cause := range []balancer.Cause{balancer.Home, balancer.Spilled, balancer.Avoided, balancer.Retried, balancer.Fewest, balancer.Turn, balancer.Drawn, balancer.Newest} {
			if k := counts[name+" "+cause.String()]; k > 0 {
				fmt.Fprintf(w, "%s\t%s\t%d\n", name, cause, k)
			}
		}
	}
	_ = w.Flush()
}

func (s *stage) show(out *bytes.Buffer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "generation %d\n", s.snapshot.Generation)
	for i := range s.snapshot.Backends {
		b := &s.snapshot.Backends[i]
		fmt.Fprintf(w, "%s\t%s\tweight %g\tshare %.3f\tlive %d\n", b.Name, b.Phase, s.snapshot.Weight(i), s.snapshot.Share(i), s.live[b.Name])
	}
	_ = w.Flush()
}

func (s *stage) backend(name string) *balancer.Backend {
	s.t.Helper()
	i := slices.IndexFunc(s.set, func(b balancer.Backend) bool { return b.Name == name })
	if i < 0 {
		s.t.Fatalf("there is no backend %q", name)
	}
	return &s.set[i]
}

func (s *stage) phase(name string) balancer.Phase {
	s.t.Helper()
	for _, p := range phases {
		if p.String() == name {
			return p
		}
	}
	s.t.Fatalf("there is no phase %q", name)
	return balancer.Down
}

func (s *stage) float(text string) float64 {
	s.t.Helper()
	if text == "" {
		return 0
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *stage) number(text string) int { return int(s.float(text)) }
