#!/bin/sh
# Installs what the tests of this folder need on Debian and Ubuntu: brokers, their command line tools and
# MQTT.js; the proxies that bench/ compares mqttlb with; and promtool, for
# deploy/check. Running it again installs only what is missing. Needs root for the packages.
#
#   E2E_CACHE   folder of the JavaScript packages; default: mqttlb-e2e in the user's cache folder
set -eu

MQTT_JS=5.16.0
cache=${E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mqttlb-e2e}
PATH=$PATH:/usr/sbin:/sbin

missing=
need() { # program package
	command -v "$1" >/dev/null || missing="$missing $2"
}
need mosquitto mosquitto
need mosquitto_pub mosquitto-clients
need haproxy haproxy
need nginx nginx
need node nodejs
need npm npm
need promtool prometheus
[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || missing="$missing rabbitmq-server"

if [ -n "$missing" ]; then
	export DEBIAN_FRONTEND=noninteractive
	# Packages must not start services: the tests run their own, on ports of their own.
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
	fi
	apt-get update -qq
	# shellcheck disable=SC2086 # a list of words
	apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

# The browser is Debian's; without one, as on Ubuntu where it is a snap, its test is skipped.
if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && apt-cache show chromium 2>/dev/null | grep -q '^Maintainer: Debian'; then
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null ||
		echo 'no browser could be installed; its tests are skipped'
fi

if [ ! -e "$cache/node_modules/mqtt/package.json" ] || ! grep -q "\"version\": \"$MQTT_JS\"" "$cache/node_modules/mqtt/package.json"; then
	mkdir -p "$cache"
	npm install --silent --no-audit --no-fund --prefix "$cache" "mqtt@$MQTT_JS" >/dev/null
fi

# HiveMQ and its Java client. Where there is no Java, or no Maven Central, the file "unavailable" says so, and the tests
# that need them are skipped, for that reason only.
hivemq=$cache/hivemq
unavailable() {
	rm -rf "$hivemq"
	mkdir -p "$hivemq"
	echo "$1" >"$hivemq/unavailable"
	echo "HiveMQ cannot be had, its tests are skipped: $1"
}
pom=$(dirname "$0")/hivemq/pom.xml
if ! { command -v javac && command -v mvn; } >/dev/null; then
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends default-jdk-headless maven; } >/dev/null 2>&1 || true
fi
if ! { command -v javac && command -v mvn; } >/dev/null; then
	unavailable 'there is no JDK with Maven, and none could be installed'
elif ! cmp -s "$pom" "$hivemq/pom.xml"; then
	rm -rf "$hivemq"
	if timeout 300 mvn --quiet --batch-mode --file "$pom" dependency:copy-dependencies "-DoutputDirectory=$hivemq/lib" >"$cache/mvn.log" 2>&1; then
		cp "$pom" "$hivemq/pom.xml"
	else
		unavailable "Maven could not fetch it; $cache/mvn.log says why"
	fi
fi
