package certs

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"os"
	"slices"
)

// inputs are the files that a state was made of.
type inputs struct {
	sum   hash.Hash
	files []string
}

func newInputs() *inputs { return &inputs{sum: sha256.New()} }

// read reads a file and remembers that it did.
func (in *inputs) read(field, path string) ([]byte, error) {
	if !slices.Contains(in.files, path) {
		in.files = append(in.files, path)
	}
	data, err := readFile(field, path)
	if err == nil {
		fmt.Fprintf(in.sum, "%s\x00%s\x00%d\x00", field, path, len(data))
		in.sum.Write(data)
	}
	return data, err
}

// digest tells whether two states were made of the same bytes.
func (in *inputs) digest() [sha256.Size]byte { return [sha256.Size]byte(in.sum.Sum(nil)) }

// openToAll tells whether everybody on this host can read a file that keeps a secret.
func openToAll(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
