#!/bin/sh
# Checks everything Prometheus is given: its configuration, the rules, and what tests/ says about each alert.
set -eu

cd -- "$(dirname -- "$0")"
./promtool.sh check config prometheus.yml
./promtool.sh check rules --lint=all --lint-fatal rules/*.yml
./promtool.sh test rules tests/*.yml
