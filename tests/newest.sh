#!/usr/bin/env bash
# The library alone, without the tools to develop it, runs with the newest of everything (fastai and fastcore above all): bash tests/newest.sh
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-newest
test -x $venv/bin/python || "${PYTHON:-python3}" -m venv $venv
$venv/bin/pip install -q --upgrade -e . 'fastcore>=2' fastai
$venv/bin/pip list 2>/dev/null | grep -iE '^(fastai|fastcore|fastprogress|torch|torchvision|numpy|safetensors) '
export OMP_NUM_THREADS=1 MPLBACKEND=agg
$venv/bin/python tests/smoke.py
