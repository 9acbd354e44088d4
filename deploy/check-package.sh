#!/usr/bin/env bash
# Installs a deb on this machine, which must not have mqttlb, runs what it has installed as its unit does, as far as
# that goes without systemd as process 1, reloads it, and purges it. Needs root and Debian.
#
#	deploy/check-package.sh dist/mqttlb_*.deb
set -euo pipefail
deb=${1:?usage: deploy/check-package.sh FILE.deb}
step() { printf -- '-- %s\n' "$*"; }
fail() { echo "$*" >&2; exit 1; }

! dpkg-query -W -f '${Status}' mqttlb 2>/dev/null | grep -q ' installed' || fail "mqttlb is installed here already"
! getent passwd mqttlb >/dev/null || fail "there is a user mqttlb already"
pid=
log=$(mktemp)
clean() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	dpkg --purge mqttlb >/dev/null 2>&1 || true
	userdel mqttlb 2>/dev/null || true
	rm -rf /run/mqttlb "$log"
}
trap clean EXIT

step "install"
dpkg --install "$deb"
mqttlb version
[ "$(stat -c '%U:%G %a' /etc/mqttlb/mqttlb.yaml)" = "root:mqttlb 640" ] || fail "the configuration can be read by others, or not by mqttlb"
dpkg-query -W -f '${Conffiles}' mqttlb | grep -q /etc/mqttlb/mqttlb.yaml || fail "the configuration would be overwritten by an update"

unit=/usr/lib/systemd/system/mqttlb.service
if command -v systemd-analyze >/dev/null; then
	step "unit"
	systemd-analyze verify "$unit" /usr/lib/systemd/system/mqttlb.socket
	level=$(systemd-analyze security --offline=true --no-pager "$unit" | sed -n 's/.*exposure level for mqttlb.service: \([0-9.]*\).*/\1/p')
	echo "exposure level $level"
	awk "BEGIN { exit !($level <= 2.0) }" || fail "the unit is exposed by more than 2.0"
fi

step "run as the unit does"
# The user, its only capability, no new privileges, a file system that is read-only but for the folders of the service,
# and the umask. Not here: the filters of system calls and address families, the watchdog, and credentials.
install -d -o mqttlb -g mqttlb -m 750 /run/mqttlb /var/lib/mqttlb
# No grace, so that this takes seconds. It has a network of its own, where all ports are free and no address is up.
printf 'shutdown: {grace: 0s}\nadmin: {address: ":9180"}\n' >>/etc/mqttlb/mqttlb.yaml
sandbox='mount --make-rprivate / && mount --bind /run/mqttlb /run/mqttlb && mount --bind /var/lib/mqttlb /var/lib/mqttlb &&
	mount -o remount,ro,bind / && ! touch /usr/bin/mqttlb 2>/dev/null && umask 0077 &&
	exec setpriv --reuid mqttlb --regid mqttlb --clear-groups --inh-caps=-all,+net_bind_service \
		--ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service --no-new-privs "$@"'
unshare --mount --net sh -c "$sandbox" sh $(sed -n 's/^ExecStart=//p' "$unit") >"$log" 2>&1 &
pid=$!
for _ in $(seq 100); do
	grep -q listening "$log" && break
	kill -0 "$pid" 2>/dev/null || { cat "$log"; fail "mqttlb has ended"; }
	sleep 0.1
done
grep listening "$log" || { cat "$log"; fail "mqttlb does not listen"; }
grep -E '^(Uid|CapEff|NoNewPrivs)' "/proc/$pid/status"
mqttlb status
[ "$(stat -c %a /run/mqttlb/admin.sock)" = 660 ] || fail "the admin socket is not for the group mqttlb alone"

step "reload as the unit does"
before=$(stat -c %Y "/proc/$pid")
sed -i 's/name: brokers/name: others/' /etc/mqttlb/mqttlb.yaml
setpriv --reuid mqttlb --regid mqttlb --clear-groups $(sed -n 's/^ExecReload=//p' "$unit")
mqttlb status --json | grep -q others || fail "the reload has changed nothing"
[ "$(stat -c %Y "/proc/$pid")" = "$before" ] || fail "the process is another one"
echo 'nonsense: true' >>/etc/mqttlb/mqttlb.yaml
! mqttlb reload || fail "an invalid configuration was taken over"

step "stop"
kill "$pid"
wait "$pid" || fail "exit status $?"
pid=

step "purge"
dpkg --purge mqttlb
[ ! -e /usr/bin/mqttlb ] && [ ! -e /etc/mqttlb ] && [ ! -e /var/lib/mqttlb ] || fail "purging leaves files behind"
echo "the package is fine"
