#!/usr/bin/env bash
# What `make test` runs: notebooks clean and in step with what they export, every notebook, then pytest
set -euo pipefail
cd "$(dirname "$0")/.."
export OMP_NUM_THREADS=1 PYTHONPATH="$PWD" MPLBACKEND=agg
made=(nbs edf_nrr README.md)
step() { printf '\n== %s\n' "$1"; }

step 'notebooks are clean, modules and README are what they export'
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
cp -a "${made[@]}" _quarto.yml "$before" # nbs/_quarto.yml links to the latter
modules() { find edf_nrr -name '*.py' ! -path edf_nrr/__init__.py "$@"; }
nbdev_clean
modules -delete
if ! nbdev_export; then
    cp -a "$before/edf_nrr" .
    echo 'nbdev_export failed; edf_nrr is back as it was' >&2
    exit 1
fi
python docs/docs.py --readme_only
changed=0
for o in "${made[@]}"; do
    diff -ruN -x __pycache__ -x .ipynb_checkpoints -x nbdev.yml "$before/$o" "$o" > "$before/diff" || {
        changed=1
        grep '^+++' "$before/diff" | sed -E 's/^\+\+\+ ([^\t]*).*/  rewritten: \1/'
        [ "$o" = nbs ] || head -40 "$before/diff"
    }
done
if [ $changed = 1 ]; then
    echo 'These files were not what the notebooks give (uncleaned, stale, edited by hand, or without a notebook).'
    echo 'They have been rewritten: look at the difference, commit it, and run again.'
    exit 1
fi
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    if status=$(git status --porcelain -- "${made[@]}") && [ -n "$status" ]; then
        echo "$status"
        [ "${CI:-}" = true ] && { echo 'The above is not committed.'; exit 1; }
        echo 'Note: the above is not committed yet (an error only where CI=true).'
    fi
else echo 'Not a git checkout: whether everything is committed was not checked.'; fi

step 'no unused or undefined names'
ruff check -q .

failed=
step 'every notebook, from top to bottom'
# a process for each: nbdev_test's own workers run several, and what one imports (fastai changes Tensor) reaches the next
find nbs -name '*.ipynb' ! -path '*/[._]*' | sort | xargs -P "${WORKERS:-2}" -n 1 nbdev_test --n_workers 0 --timing --path || failed='Some notebooks failed, see above.'

step 'pytest'
python -m pytest -q tests || failed+=' Some of tests/ failed.'
[ -z "$failed" ] || { echo "$failed"; exit 1; }
