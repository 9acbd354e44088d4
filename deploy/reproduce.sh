#!/usr/bin/env bash
# Builds the binary twice, in folders of different names and lengths, the second time without what the first has left in
# the cache of the compiler, and compares the bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
first=$work/a second=$work/another/with/a/longer/name
mkdir -p "$first" "$second"
cp -a . "$first"
cp -a "$first/." "$second" # of the copy: somebody may be editing the tree
for folder in "$first" "$second"; do
	echo "building in $folder"
	GOCACHE="$work/cache-$(basename "$folder")" "$folder/deploy/build.sh" "$folder.bin"
done
sha256sum "$first.bin" "$second.bin"
cmp "$first.bin" "$second.bin"
