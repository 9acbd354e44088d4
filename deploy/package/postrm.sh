#!/bin/sh
# After the files are gone. The user stays, as is usual: files may still belong to it.
set -e

[ ! -d /run/systemd/system ] || systemctl daemon-reload

if [ "$1" = purge ]; then
	rm -rf /var/lib/mqttlb
	rmdir --ignore-fail-on-non-empty /etc/mqttlb 2>/dev/null || true
fi
