#!/usr/bin/env bash
# Builds the static binary the way that releases, packages and images have it: the same source and the same Go give the
# same bytes, in whatever folder.
#
#	deploy/build.sh FILE        GOARCH and VERSION may be set
set -euo pipefail
out=$(realpath -m "${1:?usage: deploy/build.sh FILE}")
cd "$(dirname "$0")/.."
version=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}
CGO_ENABLED=0 GOFLAGS="-mod=readonly" go build -trimpath -ldflags "-s -w -buildid= -X main.version=$version" -o "$out" ./cmd/mqttlb
