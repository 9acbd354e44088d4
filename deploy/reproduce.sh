#!/usr/bin/env bash
# Builds the binary twice, in folders of different names and lengths, the second time without what the first has left in
# the cache of the compiler, and compares the bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for folder in "$work/a" "$work/another/with/a/longer/name"; do
	mkdir -p "$folder"
	cp -a . "$folder"
	echo "building in $folder"
	GOCACHE="$work/cache-$(basename "$folder")" "$folder/deploy/build.sh" "$folder.bin"
done
sha256sum "$work/a.bin" "$work/another/with/a/longer/name.bin"
cmp "$work/a.bin" "$work/another/with/a/longer/name.bin"
