#!/usr/bin/env bash
# Asks govulncheck whether mqttlb calls anything that is known to be vulnerable; if so, it fails. The database is that of
# vuln.go.dev, or else its source, which the module proxy has.
#
# That neither can be reached is said, and is no failure; STRICT=1 makes it one.
set -euo pipefail
cd "$(dirname "$0")/.."

govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.1.4

skip() {
	echo "SKIPPED: $*"
	[ -z "${STRICT:-}" ] || exit 1
	exit 0
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

database=https://vuln.go.dev
if ! curl --silent --fail --max-time 5 --output /dev/null "$database/index/db.json"; then
	module=$(go mod download -json golang.org/x/vulndb@latest 2>/dev/null | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p') || true
	[ -n "$module" ] || skip "neither vuln.go.dev nor the module golang.org/x/vulndb can be had"
	database=file://$module/data/osv # govulncheck makes the index itself
fi
GOBIN="$work" GOFLAGS='' go install "$govulncheck" 2>"$work/log" || { cat "$work/log"; skip "govulncheck cannot be had"; }
if "$work/govulncheck" -db "$database" ./... >"$work/log" 2>&1; then
	echo "no known vulnerability is called, says $database"
elif grep -q 'fetching vulnerabilities' "$work/log"; then
	skip "the database has gone: $(tail -n 1 "$work/log")"
else
	cat "$work/log"
	exit 1
fi
