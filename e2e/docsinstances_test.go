//go:build linux

package e2e

import (
	"maps"
	"testing"
)

// What docs/several-instances.md says of two mqttlb that know nothing of each other: a client that comes to the other one
// comes to the same broker, which ends its old connection, and each drains its own clients alone.
func TestInstancesAgreeAndDrainTheirOwn(t *testing.T) {
	t.Parallel()
	_, backends := startMosquittos(t, 2)
	set := settings{backends: backends, cluster: emptying("rate: 1000/s")}
	one, other := startLB(t, set), startLB(t, set)

	const clients = 24
	before := gather(t, one, "device", clients)
	homes := one.homes(t)
	if n := counts(homes, "")["n1"]; n == 0 || n == clients {
		t.Fatalf("%d of %d clients are on n1; want some", n, clients)
	}
	moved := make(herd)
	moved.join(t, other, before.ids())
	for _, c := range before {
		expectClosed(t, c, patience)
	}
	if got := other.homes(t); !maps.Equal(got, homes) {
		t.Errorf("through the other instance clients are at %v, want %v", got, homes)
	}

	eventually(t, patience, "nobody is left on the first instance", func() bool { return len(one.homes(t)) == 0 })
	gather(t, one, "late", clients)
	one.mustDrain(t)
	moved.ping(t)
	if got, want := counts(other.homes(t), "")["n1"], counts(homes, "")["n1"]; got != want || other.phases(t)["n1"] != "ready" {
		t.Errorf("the other instance has %d clients on n1, which is %s; want %d, and ready", got, other.phases(t)["n1"], want)
	}
	other.mustDrain(t)
	if got := counts(other.homes(t), "")["n1"]; got != 0 {
		t.Errorf("the other instance has %d clients on n1 after its drain, want 0", got)
	}
}
