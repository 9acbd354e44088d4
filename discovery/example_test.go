package discovery_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/discovery"
)

// A source sends the whole set each time; a backend that cannot be used does not keep the others away.
func ExampleFile() {
	dir, err := os.MkdirTemp("", "discovery")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "backends.yaml")
	list := `
- {name: n1, address: "10.0.0.1:1883"}
- {name: n2, address: "10.0.0.2:99999"}
- {name: n3, address: "10.0.0.3:1883", capacity: 2, labels: {zone: b}}
`
	if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	var source discovery.Source = &discovery.File{Path: path}

	ctx, stop := context.WithCancel(context.Background())
	sets, ended := make(chan []balancer.Backend), make(chan error)
	go func() { ended <- source.Run(ctx, sets) }()
	for _, b := range <-sets {
		fmt.Println(b.Name, b.Address, b.Capacity, b.Labels)
	}
	stop()
	fmt.Println(<-ended)
	// Output:
	// n1 10.0.0.1:1883 1 map[]
	// n3 10.0.0.3:1883 2 map[zone:b]
	// <nil>
}
