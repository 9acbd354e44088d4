#!/usr/bin/env bash
# What a release needs beside the gate: a reproducible build, packages that install, an image that runs, a bill of
# materials, and no known vulnerability. It leaves the files of the release in dist/.
#
# What this machine cannot do is said, and is no failure; STRICT=1 makes it one.
set -euo pipefail
cd "$(dirname "$0")/.."

govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.1.4

step() { printf '\n== %s\n' "$*"; }
skipped() {
	echo "SKIPPED: $*"
	[ -z "${STRICT:-}" ]
}
have() { for tool in "$@"; do command -v "$tool" >/dev/null || return 1; done; }
root() { [ "$(id -u)" = 0 ]; }
export VERSION=${VERSION:-$(git describe --tags --always --dirty 2>/dev/null || echo dev)}

step "reproducible build"
deploy/reproduce.sh

step "binary and bill of materials"
rm -rf dist && mkdir dist
deploy/build.sh dist/mqttlb
go run ./deploy/sbom dist/mqttlb "$VERSION" >dist/mqttlb.cdx.json
echo "$(grep -c '"purl"' dist/mqttlb.cdx.json) components"

step "known vulnerabilities"
if out=$(go run "$govulncheck" ./... 2>&1); then
	tail -n 3 <<<"$out"
elif grep -q 'fetching vulnerabilities' <<<"$out"; then
	skipped "vuln.go.dev cannot be reached: $(tail -n 1 <<<"$out")"
else
	printf '%s\n' "$out"
	exit 1
fi

step "packages"
deploy/package.sh
if root && have dpkg unshare setpriv; then
	deploy/check-package.sh dist/*.deb
else
	skipped "installing the deb needs root on Debian"
fi

step "image"
if root && have buildah podman runc busybox; then
	deploy/check-image.sh
else
	skipped "the image needs root, buildah, podman, runc and busybox-static"
fi

(cd dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
