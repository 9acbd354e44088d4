#!/usr/bin/env bash
# What a release needs beside the gate: a reproducible build, packages that install, a service that systemd runs, an image
# that runs, manifests and a bill of materials that fit their schemas, and no known vulnerability. It leaves the files of
# the release in dist/.
#
# What this machine cannot do is said, and is no failure; STRICT=1 makes it one.
set -euo pipefail
cd "$(dirname "$0")/.."

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
deploy/vuln.sh

step "schemas"
if have python3; then
	deploy/check-schemas.sh dist/mqttlb.cdx.json
else
	skipped "holding manifests and bill against their schemas needs python3"
fi

step "packages"
deploy/package.sh
if root && have dpkg unshare setpriv; then
	deploy/check-package.sh dist/*.deb
else
	skipped "installing the deb needs root on Debian"
fi

step "systemd"
if root && have debootstrap mosquitto mosquitto_pub openssl && findmnt --types cgroup2 >/dev/null; then
	deploy/check-systemd.sh dist/*.deb
else
	skipped "systemd needs root, cgroup2, debootstrap, mosquitto, mosquitto-clients and openssl"
fi

step "image"
if root && have buildah podman runc busybox; then
	deploy/check-image.sh
else
	skipped "the image needs root, buildah, podman, runc and busybox-static"
fi

(cd dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)
