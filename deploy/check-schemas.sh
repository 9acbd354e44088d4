#!/usr/bin/env bash
# Holds what other programs read against the JSON schemas that are published for it: the manifests against Kubernetes' API
# of an old and a new release, as a second opinion beside the tests in deploy/check, and a bill of materials against
# CycloneDX. The schemas come with packages of PyPI, which stay in ~/.cache/mqttlb.
#
#	deploy/check-schemas.sh [FILE.cdx.json]
set -euo pipefail
bill=${1:+$(realpath "$1")}
cd "$(dirname "$0")/check"

kubernetes=1.37.0 cyclonedx=11.12.0 # of the packages
releases="1.27 1.37"                # the first has every field that is used

tools=${XDG_CACHE_HOME:-$HOME/.cache}/mqttlb/schemas-$kubernetes-$cyclonedx
if [ ! -e "$tools/complete" ]; then
	python3 -m venv "$tools"
	"$tools/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$kubernetes" \
		"cyclonedx-python-lib[json-validation]==$cyclonedx"
	touch "$tools/complete"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/render" ./render
for folder in ../kubernetes/base ../kubernetes/overlays/*; do
	made=$work/$(basename "$folder").yaml
	"$work/render" "$folder" >"$made"
	for release in $releases; do
		"$tools/bin/kubernetes-validate" --strict --quiet --kubernetes-version "$release" "$made"
		echo "$(basename "$folder"): $(grep -c '^kind:' "$made") objects are as Kubernetes $release has them"
	done
done

[ -n "$bill" ] || exit 0
"$tools/bin/python" - "$bill" <<'PYTHON'
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

with open(sys.argv[1]) as bill:
    wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(bill.read())
sys.exit(wrong and "the bill of materials is not valid: " + str(wrong).splitlines()[0])
PYTHON
echo "the bill of materials is valid"
