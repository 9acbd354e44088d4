#!/bin/sh
# After the files are there: dpkg calls it with "configure", rpm with the number of versions that are installed.
set -e

case "$1" in configure | 1 | 2) ;; *) exit 0 ;; esac

if ! getent passwd mqttlb >/dev/null; then
	if command -v systemd-sysusers >/dev/null; then
		systemd-sysusers mqttlb.conf
	else
		useradd --system --user-group --no-create-home --home-dir /var/lib/mqttlb --shell /usr/sbin/nologin mqttlb
	fi
fi

# It may hold instance.hash_key. An owner that somebody has chosen stays.
config=/etc/mqttlb/mqttlb.yaml
if [ -f $config ] && [ "$(stat -c %U:%G $config)" = root:root ]; then
	chgrp mqttlb $config
fi

# Without systemd as process 1, as in a container, there is nothing to tell.
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
# Not enabled and not started at the first installation: there are no brokers in its configuration yet. An update
# restarts what runs: it waits until the sessions are ended evenly, which may take as long as shutdown.drain. That it does
# not start again, for its configuration perhaps, is no reason to leave the package half installed.
systemctl try-restart mqttlb.service || echo "mqttlb is installed, but does not start: see systemctl status mqttlb" >&2
