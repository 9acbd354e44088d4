#!/bin/sh
# Before the files go: dpkg calls it with "remove", "upgrade" and others, rpm with the number of versions that will stay.
set -e

case "$1" in remove | 0) ;; *) exit 0 ;; esac

[ -d /run/systemd/system ] || exit 0
systemctl disable --now mqttlb.socket mqttlb.service
