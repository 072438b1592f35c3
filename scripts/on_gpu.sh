#!/usr/bin/env bash
# One command for whoever has a card: everything about the attention kernels that only a card can tell, in at most eight
# minutes and without a network. Writes JSON and Markdown to benchmarks/results/. PYTHON=... names another Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
exec timeout --kill-after=10 480 "${PYTHON:-.venv/bin/python}" benchmarks/on_gpu.py "$@"
