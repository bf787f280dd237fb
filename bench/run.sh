#!/usr/bin/env bash
# Builds a release and measures the budgets of the design on this machine; what
# is compared is measured side by side in this one run. Needs Docker and root.
#   ./bench/run.sh            everything
#   ./bench/run.sh swap start some of: swap revoke restart start append memory
#                            apart submit crowd burst rotations due_at_once
#                            fleet scheduler cold_start stores incident signal
#                            policies audits keys
# The last line is one JSON object. Method and results: bench/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./deploy/build.sh
exec cargo run --quiet --release -p keywheel-bench --bin keywheel-bench -- "$@"
