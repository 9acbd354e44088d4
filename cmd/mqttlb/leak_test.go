package main

import (
	"testing"

	"go.uber.org/goleak"
)

// All tests together must leave no goroutine behind; one by one is impossible for parallel tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
