package config

import "slices"

// notBuilt lists the keys, and the values of keys, that are part of the
// configuration but that this version does not implement. Using one is an
// error that says so, which is kinder than "unknown key". Whoever builds a
// feature deletes its line; a test fails when a key is both here and in the
// schema.
func notBuilt() []string {
	return []string{
		"clusters[].discovery.azure",
		"clusters[].discovery.consul",
		"clusters[].discovery.etcd",
		"clusters[].discovery.kubernetes",
	}
}

// isNotBuilt reports whether the key at path is known but not built.
func isNotBuilt(path string) bool {
	return slices.Contains(notBuilt(), pattern(path))
}

// isValueNotBuilt reports whether value is known but not built for the key at path.
func isValueNotBuilt(path, value string) bool {
	return slices.Contains(notBuilt(), pattern(path)+"="+value)
}
