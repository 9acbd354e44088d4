#!/usr/bin/env bash
# Starts systemd of a Debian tree as process 1. It must be the first process of new namespaces (unshare --pid --mount
# --uts --ipc --net --cgroup), which deploy/check-systemd.sh makes; the tree stays as it is.
#
#	deploy/boot-debian.sh TREE FOLDER       what changes goes to FOLDER
set -euo pipefail
tree=$1 changes=$2
mount --make-rprivate /
root=$changes/root
mkdir -p "$changes/upper" "$changes/work" "$root"
mount -t overlay -o "lowerdir=$tree,upperdir=$changes/upper,workdir=$changes/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
hostname check
cd "$root"
mkdir outside
pivot_root . outside
# Told that it is in a container, systemd leaves alone what belongs to the machine, and expects mounts to be shared: those
# that it makes for credentials would be lost.
exec env -i container=namespaces PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/bin/sh -c 'umount -l /outside && rmdir /outside && mount --make-rshared / && exec /sbin/init' <dev/null
