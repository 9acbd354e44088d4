package config

// FromFlags returns the configuration that the flags --listen and --backend
// describe: listeners in front of one cluster. Without --listen there is one
// listener on the default address. All other keys have their defaults, and the
// same rules apply as for a file; errors name the flag instead of a position.
func FromFlags(listen, backends []string, opts Options) (*Config, error) {
	r := newReport("")
	r.flags = map[string]string{"": "the flags", "clusters": "--backend", "listeners": "--listen"}
	cfg := newConfig(opts)
	for _, address := range listen {
		l := newListener()
		l.Address = address
		cfg.Listeners = append(cfg.Listeners, l)
	}
	cluster := newCluster()
	for _, address := range backends {
		b := newBackend()
		b.Address = address
		cluster.Discovery.Static = append(cluster.Discovery.Static, b)
	}
	cfg.Clusters = []Cluster{cluster}
	if len(backends) == 0 {
		r.at("clusters", "is missing; write --backend HOST:PORT once for each broker")
	} else {
		finish(cfg, opts, r)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return cfg, nil
}
