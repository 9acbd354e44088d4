#!/usr/bin/env bash
# Builds the image of the Dockerfile and runs it as it should be run: not as root, without capabilities, with a root file
# system that is read-only. It passes its health check, reloads, and stops.
#
# No registry is asked: what stands in for golang:1.26 is made of the Go of this machine and busybox. Needs root, buildah,
# podman, runc and busybox-static of Debian; it works inside of containers.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf -- '-- %s\n' "$*"; }
fail() { echo "$*" >&2; exit 1; }

work=$(mktemp -d)
export DISABLE_HC_SYSTEMD=true # the health check is for us to run: the timers of podman need systemd
# A store of our own: nothing of it stays, and other images do not matter.
store=(--log-level error --storage-driver vfs --root "$work/store" --runroot "$work/run")
podman=(podman "${store[@]}" --runtime runc --cgroup-manager cgroupfs)
trap '"${podman[@]}" rm --all --force >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

step "a base image without a registry"
base=$(buildah "${store[@]}" from scratch)
buildah "${store[@]}" copy -q "$base" "$(go env GOROOT)" /usr/local/go >/dev/null
buildah "${store[@]}" copy -q "$base" /bin/busybox /bin/ >/dev/null
buildah "${store[@]}" copy -q "$base" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ >/dev/null
mounted=$(buildah "${store[@]}" mount "$base")
for tool in sh mkdir chown; do ln -s busybox "$mounted/bin/$tool"; done
mkdir -m 1777 "$mounted/tmp"
buildah "${store[@]}" config --env PATH=/usr/local/go/bin:/bin --env GOPATH=/go --env GOTOOLCHAIN=local --env HOME=/tmp "$base"
buildah "${store[@]}" commit -q --rm "$base" docker.io/library/golang:1.26 >/dev/null

step "build"
# The modules come from the cache of this machine, which go.sum checks, and so does what is compiled already.
buildah "${store[@]}" bud --quiet --isolation chroot --format docker --pull-never --volume "$(go env GOMODCACHE):/go/pkg/mod" \
	--volume "$(go env GOCACHE):/tmp/.cache/go-build" \
	--build-arg VERSION=check --tag mqttlb:check .
user=$("${podman[@]}" image inspect --format '{{.Config.User}}' mqttlb:check)
[ "$user" = 65532:65532 ] || fail "the image runs as $user"
"${podman[@]}" image inspect --format '{{.Size}} bytes' mqttlb:check

"${podman[@]}" image inspect --format '{{json .Config.Labels}}' mqttlb:check | tee "$work/labels"
grep -q '"org.opencontainers.image.version":"check"' "$work/labels" || fail "the labels do not tell the version"

step "run"
cat >"$work/mqttlb.yaml" <<'YAML'
listeners: [{address: "127.0.0.1:22883"}]
admin: {address: "127.0.0.1:22180"}
shutdown: {grace: 0s}
clusters: [{name: brokers, health: {interval: 0s}, discovery: {static: [{address: "127.0.0.1:1"}]}}]
YAML
chmod 755 "$work" && chmod 644 "$work/mqttlb.yaml"
# A loopback of its own is enough: all is asked from inside. The limits are lower than anybody's, because a container
# may not raise them.
"${podman[@]}" run --detach --name check --network none --read-only --read-only-tmpfs=false --cap-drop all \
	--security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 \
	--tmpfs /run/mqttlb:mode=0700,size=1m,notmpcopyup,U \
	--volume "$work/mqttlb.yaml:/etc/mqttlb/mqttlb.yaml:ro" mqttlb:check >/dev/null
inside() { "${podman[@]}" exec check /mqttlb "$@"; }
healthy() { "${podman[@]}" healthcheck run check; }
for _ in $(seq 100); do
	healthy >/dev/null 2>&1 && break
	sleep 0.1
done

step "health check, as the image says it"
"${podman[@]}" image inspect --format '{{json .Config.Healthcheck}}' mqttlb:check
healthy || { "${podman[@]}" logs check; fail "the container is not healthy"; }
inside status
inside version | tee "$work/version"
grep -q '^mqttlb check, ' "$work/version" || fail "the binary does not tell the version"
pid=$("${podman[@]}" inspect --format '{{.State.Pid}}' check)
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' "/proc/$pid/status"
grep -q '^CapBnd:[[:space:]]*0*$' "/proc/$pid/status" || fail "the container has capabilities"
grep -q '^Uid:[[:space:]]*65532[[:space:]]' "/proc/$pid/status" || fail "the container runs as another user"
awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo" | grep -q '^ro' || fail "the root file system is not read-only"

step "reload and stop"
inside reload
"${podman[@]}" stop --time 20 check >/dev/null
status=$("${podman[@]}" inspect --format '{{.State.ExitCode}}' check)
[ "$status" = 0 ] || { "${podman[@]}" logs check; fail "exit status $status"; }
echo "the image is fine"
