//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Fault E1: what becomes of wills when their clients are moved, with each policy. The backends are two doors of one
// mosquitto, as only brokers that share their sessions can know that a client is back; whoever listens for the wills
// came to the old door. The delay of the client that stays away is the longer one: once its will is there, it is too
// late for that of the client that has come back.
func TestFaultE1WillsOfMovedClients(t *testing.T) {
	t.Parallel()
	type client struct {
		opening
		away bool // it does not come back
	}
	clients := map[string]client{
		"none":         {opening: opening{version: v311}},
		"v311":         {opening: opening{version: v311, will: "wills"}},
		"v311-keep":    {opening: opening{version: v311, will: "wills", keep: true}},
		"v5":           {opening: opening{version: v5, will: "wills"}},
		"v5-keep":      {opening: opening{version: v5, will: "wills", keep: true, expiry: 60}},
		"delayed":      {opening: opening{version: v5, will: "wills", keep: true, expiry: 60, delay: 5}},
		"delayed-away": {opening: opening{version: v5, will: "wills", keep: true, expiry: 60, delay: 7}, away: true},
	}
	prompt := []string{"v311", "v311-keep", "v5", "v5-keep"}
	for policy, c := range map[string]struct {
		stay  []string // who is not moved
		wills []string // whose wills are published
	}{
		"skip":     {stay: prompt, wills: []string{"delayed-away"}},
		"publish":  {wills: append([]string{"delayed-away"}, prompt...)},
		"suppress": {wills: []string{"delayed-away"}},
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			mosquitto, backends := startMosquittoCluster(t, 2)
			l := startLB(t, settings{backends: backends, cluster: emptying("will: " + policy)})
			ids := settlers(t, l, "n1", len(clients))
			wills := hears(t, backends[0].address, "wills")
			names := make(map[string]string) // by client id
			wanderers := make(map[string]*wanderer)
			for name, c := range clients {
				o := c.opening
				o.id, ids = ids[0], ids[1:]
				names[o.id] = name
				if c.away {
					strays(t, l, o)
				} else {
					wanderers[name] = wander(t, l, o)
				}
			}

			if len(c.stay) == 0 {
				l.mustDrain(t)
			} else {
				l.drainInVain(t, len(c.stay))
			}

			published := func() []string {
				var list []string
				for _, id := range wills() {
					list = append(list, names[string(id)])
				}
				slices.Sort(list)
				return list
			}
			eventually(t, patience, "the will of the client that stays away is published", func() bool {
				return slices.Contains(published(), "delayed-away")
			})
			slices.Sort(c.wills)
			if got := published(); !slices.Equal(got, c.wills) {
				t.Errorf("the wills of these clients were published: %v, want %v", got, c.wills)
			}
			homes := l.homes(t)
			for name, w := range wanderers {
				home, visits := "n2", 2
				if slices.Contains(c.stay, name) {
					home, visits = "n1", 1
				}
				history := w.history()
				if homes[w.id] != home || len(history) != visits {
					t.Errorf("client %s is on %s after %d connections, want %s after %d", name, homes[w.id], len(history), home, visits)
				}
				if last := history[len(history)-1]; visits == 2 && last.resumed != w.keep {
					t.Errorf("client %s: session present %v, want %v", name, last.resumed, w.keep)
				}
			}
			if bad := mosquitto.harmed(); len(bad) > 0 {
				t.Errorf("mosquitto complains: %q", bad)
			}
		})
	}
}

// drainInVain drains n1 until only those clients are left who stay because of their wills: the command says so.
func (l *lb) drainInVain(t *testing.T, stay int) {
	t.Helper()
	if status, out := l.drain(t); status != 0 {
		t.Fatalf("drain n1: exit status %d:\n%s", status, out)
	}
	eventually(t, unhindered, "the others are moved", func() bool { return counts(l.homes(t), "")["n1"] <= stay })
	status, out := l.drain(t, "--wait", "--timeout", "2s")
	if want := fmt.Sprintf("not moved: will %d", stay); status != 1 || !strings.Contains(out, want) {
		t.Errorf("exit status %d, want 1 and %q in:\n%s", status, want, out)
	}
}

// strays connects a client that does not come back when its connection ends, but says nothing either.
func strays(t *testing.T, l *lb, o opening) {
	t.Helper()
	c := dial(t, l.address, "")
	greetWith(t, c, o)
	_ = c.SetDeadline(time.Time{})
	go func() {
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}()
}

// greetWith sends CONNECT, and returns whether the broker that accepts it had a session.
func greetWith(t *testing.T, c *net.TCPConn, o opening) (resumed bool) {
	t.Helper()
	send(t, c, o.bytes())
	answer, err := readPacket(c)
	if err != nil || answer[0] != 0x20 || answer[3] != 0 {
		t.Fatalf("client %s got %x instead of CONNACK: %v", o.id, answer, err)
	}
	return answer[2]&1 == 1
}

// How a proxy can end a connection to a broker.
var (
	bye         = []byte{0xe0, 0}
	byeWithWill = []byte{0xe0, 1, 4}
)

// The ground on which the policies stand: what mosquitto does with wills and sessions, by how its connection ends. If a
// row changes with a new version, the policies must be thought over.
func TestMosquittoTreatsWillsAsAssumed(t *testing.T) {
	t.Parallel()
	mosquitto := startMosquitto(t)
	old := opening{version: v311, will: "wills"}
	oldKept := opening{version: v311, will: "wills", keep: true}
	kept := opening{version: v5, will: "wills", keep: true, expiry: 60}
	delayed := opening{version: v5, will: "wills", keep: true, expiry: 60, delay: 3}
	closing := func(t *testing.T, c *net.TCPConn) { t.Helper(); c.Close() }
	resetting := func(t *testing.T, c *net.TCPConn) { t.Helper(); reset(t, c) }
	half := func(words ...[]byte) func(t *testing.T, c *net.TCPConn) {
		return func(t *testing.T, c *net.TCPConn) {
			t.Helper()
			for _, b := range words {
				send(t, c, b)
			}
			_ = c.CloseWrite() // mosquitto may have closed already
			if _, err := io.Copy(io.Discard, c); err != nil && len(words) == 0 {
				t.Errorf("no FIN in answer to FIN: %v", err)
			}
		}
	}
	stands := func(*testing.T, *net.TCPConn) {} // until the client comes again
	for name, c := range map[string]struct {
		opening
		end     func(t *testing.T, c *net.TCPConn)
		fires   bool // the will is published
		again   bool // the client comes again, before the delay is over
		resumed bool // and finds its session
	}{
		"v311_FIN":                                 {old, closing, true, false, false},
		"v311_RST":                                 {old, resetting, true, false, false},
		"v311_half_close":                          {old, half(), true, false, false},
		"v311_DISCONNECT":                          {old, half(bye), false, false, false},
		"v311_DISCONNECT_keeps_the_session":        {oldKept, half(bye), false, true, true},
		"v311_takeover_of_a_clean_session":         {old, stands, true, true, false},
		"v311_takeover_of_a_session":               {oldKept, stands, false, true, true},
		"v5_FIN":                                   {kept, closing, true, false, false},
		"v5_FIN_with_delay_and_return":             {delayed, closing, false, true, true},
		"v5_FIN_with_delay_and_no_return":          {delayed, closing, true, false, false},
		"v5_DISCONNECT":                            {kept, half(bye), false, true, true},
		"v5_DISCONNECT_with_will":                  {kept, half(byeWithWill), true, false, false},
		"v5_DISCONNECT_with_will_delay_and_return": {delayed, half(byeWithWill), false, true, true},
		"DISCONNECT_in_the_middle_of_a_PUBLISH":    {old, half(publish("e2e", make([]byte, 90))[:40], bye), true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.opening
			o.id, o.will = name, "wills/"+name
			wills := hears(t, mosquitto.address, o.will)
			conn := dial(t, mosquitto.address, "")
			greetWith(t, conn, o)
			c.end(t, conn)
			if c.again {
				time.Sleep(time.Second / 2) // mosquitto notices the end before the client comes again
				if resumed := greetWith(t, dial(t, mosquitto.address, ""), o); resumed != c.resumed {
					t.Errorf("session present %v, want %v", resumed, c.resumed)
				}
			}
			if c.fires {
				eventually(t, patience, "the will is published", func() bool { return len(wills()) == 1 })
				return
			}
			time.Sleep(time.Duration(o.delay)*time.Second + 3*time.Second/2)
			if n := len(wills()); n != 0 {
				t.Errorf("%d wills were published, want none", n)
			}
		})
	}
}

// DISCONNECT in the name of a client keeps the session too: what is not acknowledged comes again, marked as such.
func TestMosquittoSendsAgainWhatADisconnectHasLeftOpen(t *testing.T) {
	t.Parallel()
	mosquitto := startMosquitto(t)
	o := opening{id: "slow", keep: true, will: "wills"}
	c := dial(t, mosquitto.address, "")
	greetWith(t, c, o)
	send(t, c, packet(0x82, append(text([]byte{0, 1}, "e2e"), 1)))
	expect(t, c, []byte{0x90, 3, 0, 1, 1})
	other := dial(t, mosquitto.address, "")
	greetWith(t, other, opening{id: "other"})
	send(t, other, packet(0x32, append(text(nil, "e2e"), 0, 7, 'x')))
	expect(t, other, []byte{0x40, 2, 0, 7})
	first, err := readPacket(c)
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, bye)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("no FIN after DISCONNECT: %v", err)
	}
	again := dial(t, mosquitto.address, "")
	if !greetWith(t, again, o) {
		t.Error("the session is gone")
	}
	second, err := readPacket(again)
	if err != nil {
		t.Fatal(err)
	}
	first[0] |= 0x08 // DUP
	if !slices.Equal(first, second) {
		t.Errorf("got %x, want the same message again: %x", second, first)
	}
}
