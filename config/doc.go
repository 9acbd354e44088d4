// Package config describes the configuration file of mqttlb: its schema, its
// defaults, and what is wrong with a given file, in which line, and what to
// write instead.
//
//	cfg, err := config.Load("mqttlb.yaml", config.Options{Hostname: host})
//	var bad config.Errors
//	if errors.As(err, &bad) {
//		fmt.Fprintln(os.Stderr, bad) // one line per mistake: mqttlb.yaml:3:7: …
//	}
//
// Load, Parse and FromFlags return a complete configuration or an error, never
// both: every default is filled in and every rule has been checked, so the
// caller reads plain fields and asks no further questions. What only a running
// process can know (is the port free, can the token file be read) is left to
// the caller, and what only the packages behind the keys know (is this a metric
// that can be read) to Options.Check, which can put a position to its mistakes
// too. Marshal writes the effective configuration back as YAML.
//
// # One description
//
// The struct types in schema.go, schemalistener.go and schemacluster.go are the
// only description of the file. Their tags give each key its name, default and
// limits, and the comment above a field is the text that operators read in
// docs/configuration.md. Decoding, checking, suggestions for misspelled keys,
// Marshal and the reference page all follow from them. The tags are
//
//	yaml      the key
//	default   the default, as it would be written in the file
//	derived   in words: a default that depends on something else (see derive.go)
//	range     "min..max" of a number, or of the number of entries of a list
//	zero      what 0 means, when 0 is allowed outside of the range, or "" beside oneof
//	oneof     the accepted values, separated by |
//	required  what to write when the key is missing
//	off       what to write instead of off, no or false for a section
//	file      "read": the path of a file that is only read, and may be a credential of systemd
//	also      what users of other software may call the key, separated by |
//
// A section is there whether it is written or not. A pointer to one is there
// only when it is written, with a value or without: it is one of several that
// exclude each other, and says by its presence that it is meant.
//
// To add a key: add the field with its tags and its comment, delete its line
// from the table in notbuilt.go, add rules that look at more than one value to
// validate.go, add the key to docs/example.yaml, and regenerate the reference
// page and the golden files with
//
//	go test ./config -update
//
// # Errors
//
// A mistake is an Error with file, line, column and the path of the key, for
// example listeners[0].address. All mistakes of a file are reported at once,
// in the order of the file. A mistake is reported once: a value that could not
// be read is not checked any further.
//
// # Concurrency
//
// The package has no state. A Config may be read by any number of goroutines
// as long as none writes to it.
package config
