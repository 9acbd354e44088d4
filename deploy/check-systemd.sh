#!/usr/bin/env bash
# Installs a deb in a small Debian where systemd is process 1, and lives through the life of the service there: start,
# credentials, reload, watchdog, socket activation, update, purge. All is in namespaces of its own, with a network that
# is a loopback alone: nothing of this machine changes.
#
#	deploy/check-systemd.sh [FILE.deb]      without a file it builds one, as deploy/package.sh does
#
# Needs root, cgroup2, debootstrap, mosquitto and its clients, and openssl; no container engine. SUITE is Debian's
# release. Its files stay in ~/.cache/mqttlb for the next time.
set -euo pipefail
here=$(realpath "$(dirname "$0")")
step() { printf -- '-- %s\n' "$*"; }

work=$(mktemp -d)
init= unshared= group= parts=()
clean() {
	for pid in "${parts[@]}"; do kill "$pid" 2>/dev/null || true; done
	[ -z "$init" ] || kill -KILL "$init" 2>/dev/null || true # and with it all that it has started
	[ -z "$unshared" ] || wait "$unshared" 2>/dev/null || true
	[ -z "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	rm -rf "$work"
}
trap clean EXIT
fail() {
	echo "$*" >&2
	[ -z "$init" ] || inside journalctl --no-pager --lines 40 >&2 || true
	exit 1
}

inside() { nsenter --target "$init" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
# A program of this machine, in the network of the other.
beside() { nsenter --target "$init" --net "$@"; }
# The same until the end.
beside_all() {
	nsenter --target "$init" --net "$@" &
	parts+=($!)
}
# within SECONDS COMMAND repeats it until it succeeds.
within() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.1
	done
}
restart() { inside systemctl restart mqttlb || fail "mqttlb does not start"; }
property() { inside systemctl show --value --property "$1" "${2:-mqttlb.service}"; }
served() { beside timeout 20 mosquitto_pub -p 1883 -t any -m any "$@"; }
drop_in() {
	inside mkdir -p /etc/systemd/system/mqttlb.service.d
	inside tee "/etc/systemd/system/mqttlb.service.d/$1.conf" >/dev/null
	inside systemctl daemon-reload
}

deb=${1:-}
if [ -z "$deb" ]; then
	"$here/package.sh"
	deb=$(ls -t "$here"/../dist/*.deb | head -n 1)
fi

suite=${SUITE:-bookworm}
tree=${XDG_CACHE_HOME:-$HOME/.cache}/mqttlb/$suite
if [ ! -d "$tree" ]; then
	step "a small Debian, $suite"
	mkdir -p "$(dirname "$tree")"
	debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,procps "$suite" "$work/tree" >"$work/debootstrap.log" ||
		{ tail -n 20 "$work/debootstrap.log"; fail "debootstrap has failed"; }
	rm -rf "$work"/tree/var/cache/apt/archives/*.deb
	mv "$work/tree" "$tree"
fi

step "boot"
cgroups=$(findmnt --noheadings --first-only --types cgroup2 --output TARGET) || fail "there is no cgroup2 here"
group=$cgroups/mqttlb-check-$$
mkdir "$group"
(
	echo "$BASHPID" >"$group/cgroup.procs"
	exec unshare --pid --fork --kill-child --mount --uts --ipc --net --cgroup "$here/boot-debian.sh" "$tree" "$work"
) >"$work/boot.log" 2>&1 &
unshared=$!
booted() {
	init=$(cat "/proc/$unshared/task/$unshared/children")
	init=${init%% *}
	# Before that it is the script, and what systemctl reaches would be this machine's.
	[ "$(cat "/proc/$init/comm")" = systemd ]
}
within 20 booted || { init=; cat "$work/boot.log"; fail "systemd does not start"; }
within 20 inside systemctl is-system-running --wait || { inside systemctl --failed; fail "systemd has not come up"; }
inside systemctl --version | head -n 1

cat >"$work/mosquitto.conf" <<'CONF'
listener 11883 127.0.0.1
allow_anonymous true
CONF
beside_all mosquitto -c "$work/mosquitto.conf" >"$work/broker.log" 2>&1

step "install"
inside tee /opt/mqttlb.deb >/dev/null <"$deb"
inside dpkg --install /opt/mqttlb.deb
inside mqttlb version
[ "$(property ActiveState) $(property UnitFileState)" = "inactive disabled" ] || fail "it was started before it has brokers"
configuration() {
	cat <<YAML
listeners: [{name: mqtt, address: ":1883"}${1:-}]
shutdown: {grace: 0s, drain: 1s}
clusters: [{name: brokers, health: {interval: 1s}, discovery: {static: [{name: n1, address: "127.0.0.1:11883"}]}}]
YAML
}
configure() { configuration "$@" | inside tee /etc/mqttlb/mqttlb.yaml >/dev/null; }
configure
inside systemctl enable --now mqttlb
[ "$(property ActiveState) $(property Type)" = "active notify" ] || fail "mqttlb is $(property ActiveState)"
property StatusText | grep '1 of 1 brokers up' || fail "got the status $(property StatusText)"
served || fail "no client is served"
inside mqttlb status >/dev/null
inside journalctl --no-pager --unit mqttlb --grep 'msg=listening' --lines 1 || fail "the journal has nothing of it"

step "the sandbox"
pid=$(property MainPID)
inside cat "/proc/$pid/status" >"$work/status"
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "$work/status"
user=$(inside id -u mqttlb)
grep -q "^Uid:[[:space:]]*$user[[:space:]]*$user[[:space:]]*$user[[:space:]]*$user$" "$work/status" || fail "it runs as another user"
for want in CapEff:0000000000000400 CapBnd:0000000000000400 NoNewPrivs:1 Seccomp:2; do
	grep -q "^${want%:*}:[[:space:]]*${want#*:}$" "$work/status" || fail "want $want"
done
for path in /etc /usr/bin /var/lib; do
	! inside nsenter --target "$pid" --mount touch "$path/written" 2>/dev/null || fail "it could write to $path"
done
[ "$(inside stat -c '%U:%G %a' /run/mqttlb/admin.sock)" = "mqttlb:mqttlb 660" ] || fail "the admin socket is not for the group mqttlb"

step "reload"
beside_all mosquitto_sub -p 1883 -i stays -t news >"$work/news" 2>"$work/stays.log"
within 10 grep -q 'as stays' "$work/broker.log" || fail "the client is not connected"
news() { beside mosquitto_pub -p 11883 -t news -m "$1"; within 10 grep -qx "$1" "$work/news"; }
within 10 news first || fail "the client gets nothing"
configure ', {name: other, address: ":1884"}'
inside systemctl reload mqttlb
served -p 1884 || fail "the reload has changed nothing"
echo 'nonsense: true' | inside tee -a /etc/mqttlb/mqttlb.yaml >/dev/null
! inside systemctl reload mqttlb 2>"$work/reload" || fail "an invalid configuration was taken over"
within 10 eval 'property StatusText | grep "the last reload has failed"' || fail "got the status $(property StatusText)"
configure
inside systemctl reload mqttlb
news second || fail "the client gets nothing more"
[ "$(property MainPID) $(grep -c 'as stays' "$work/broker.log")" = "$pid 1" ] || fail "the client had to connect again"
kill "${parts[1]}" # it would come back by itself, and start the service when only its socket should be open

step "credentials"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
	-addext subjectAltName=DNS:localhost -keyout "$work/tls.key" -out "$work/tls.crt" 2>/dev/null
inside tee /etc/mqttlb/tls.crt >/dev/null <"$work/tls.crt"
inside install -m 600 /dev/null /etc/mqttlb/tls.key
inside tee /etc/mqttlb/tls.key >/dev/null <"$work/tls.key"
drop_in credentials <<'UNIT'
[Service]
LoadCredential=tls.key:/etc/mqttlb/tls.key
UNIT
configure ', {name: mqtts, address: ":8883", tls: {mode: terminate, certificates: [{cert: /etc/mqttlb/tls.crt, key: "${CREDENTIALS_DIRECTORY}/tls.key"}]}}'
restart
served -h localhost -p 8883 --cafile "$work/tls.crt" || fail "nobody is served with the key that only root can read"

step "watchdog"
drop_in watchdog <<'UNIT'
[Service]
WatchdogSec=2s
UNIT
configure
restart
[ "$(property NRestarts)" = 0 ] || fail "it was restarted before"
inside kill -STOP "$(property MainPID)"
within 30 eval '[ "$(property NRestarts) $(property ActiveState)" = "1 active" ]' || fail "the watchdog has not restarted it"
inside journalctl --no-pager --output cat --unit mqttlb --grep 'Watchdog timeout' --lines 1
served || fail "no client is served after the watchdog"

step "the port while it restarts"
inside systemctl stop mqttlb
inside systemctl enable --now mqttlb.socket
[ "$(property ActiveState)" = inactive ] || fail "the socket alone has started it"
served || fail "the client that has come first is not served"
[ "$(property ActiveState)" = active ] || fail "the client was served by something else"
clients=0
for turn in 1 2 3; do
	inside systemctl restart mqttlb &
	restart=$!
	while kill -0 $restart 2>/dev/null; do
		served 2>>"$work/clients.log" || true # its session may be one of those that the restart ends
		clients=$((clients + 1))
	done
	wait $restart || fail "restart $turn has failed"
done
served || fail "no client is served after the restarts"
! grep -i refused "$work/clients.log" || fail "the port was closed during a restart"
echo "$clients clients in 3 restarts, none refused"

step "update"
dpkg-deb --raw-extract "$deb" "$work/newer"
version=$(sed -n 's/^Version: //p' "$work/newer/DEBIAN/control")
sed -i "s/^Version: .*/&+newer/" "$work/newer/DEBIAN/control"
dpkg-deb --root-owner-group -Znone --build "$work/newer" "$work/newer.deb" >/dev/null
inside tee /opt/newer.deb >/dev/null <"$work/newer.deb"
pid=$(property MainPID)
inside dpkg --install /opt/newer.deb
[ "$(inside dpkg-query --show --showformat '${Version}' mqttlb)" = "$version+newer" ] || fail "the update is not installed"
[ "$(property ActiveState) $(property UnitFileState)" = "active enabled" ] || fail "after the update it is $(property ActiveState) and $(property UnitFileState)"
[ "$(property MainPID)" != "$pid" ] || fail "the old one runs still"
[ "$(inside readlink "/proc/$(property MainPID)/exe")" = /usr/bin/mqttlb ] || fail "what runs is not what is installed"
configuration | cmp - <(inside cat /etc/mqttlb/mqttlb.yaml) || fail "the update has changed the configuration"
served || fail "no client is served after the update"
# What an operator has made invalid is no reason to leave a package half installed.
echo 'nonsense: true' | inside tee -a /etc/mqttlb/mqttlb.yaml >/dev/null
inside dpkg --install /opt/mqttlb.deb || fail "an invalid configuration makes the update fail"
configure
inside systemctl reset-failed mqttlb
inside systemctl start mqttlb

step "stop"
inside systemctl stop mqttlb.socket mqttlb
[ "$(property ActiveState) $(property Result) $(property ExecMainStatus)" = "inactive success 0" ] ||
	fail "it is $(property ActiveState), result $(property Result), status $(property ExecMainStatus)"

step "purge"
inside systemctl start mqttlb
inside dpkg --purge mqttlb
! inside pgrep -x mqttlb || fail "it runs still"
[ -z "$(inside systemctl list-unit-files --no-legend 'mqttlb*')" ] || fail "there are units left"
for path in /usr/bin/mqttlb /var/lib/mqttlb /run/mqttlb /etc/systemd/system/multi-user.target.wants/mqttlb.service; do
	! inside test -e "$path" || fail "$path is left"
done
[ "$(inside systemctl is-system-running)" = running ] || { inside systemctl --failed; fail "a unit has failed"; }
echo "the service is fine"
