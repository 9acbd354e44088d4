#!/usr/bin/env bash
# Builds dist/*.deb and dist/*.rpm.
#
#	deploy/package.sh           VERSION (default: of git) and GOARCH may be set
set -euo pipefail
cd "$(dirname "$0")/.."

nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.0

described=$(git describe --tags --always --dirty 2>/dev/null || echo dev)
export VERSION=${VERSION:-$described}
case $VERSION in [0-9]* | v[0-9]*) ;; *) VERSION=0.0.0~$VERSION ;; esac # a package's version begins with a digit
export VERSION=${VERSION#v}
ARCH=$(go env GOARCH)
# All files are as old as the commit, so that the same commit gives the same package.
committed=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$committed}
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
export ARCH STAGE

mkdir -p dist
deploy/build.sh "$STAGE/mqttlb"
GOARCH='' go build -o "$STAGE/native" ./cmd/mqttlb # the other may be for another machine
for shell in bash zsh fish; do "$STAGE/native" completion "$shell" >"$STAGE/completion.$shell"; done
# nfpm does not expand variables in the paths of contents.
sed "s|\${STAGE}|$STAGE|" deploy/nfpm.yaml >"$STAGE/nfpm.yaml"
for kind in deb rpm; do
	GOARCH='' go run "$nfpm" package --config "$STAGE/nfpm.yaml" --packager "$kind" --target dist/
done
