#!/usr/bin/env bash
# What bench/gpu.py needs on a GPU machine without a network, of which torch, torchvision, matplotlib, pyarrow, scipy,
# scikit-learn, psutil and safetensors are there. Everything lies in .gpu, which git ignores.
#   bash bench/gpu.sh fetch [PYTHON]        where there is a network: wheels for that Python (3.12), about 2 MB
#   bash bench/gpu.sh pieces FOLDER ...     Parquet folders in pieces of at most PIECE MB (54), .gpu/data-1, .gpu/data-2, ...
#   bash bench/gpu.sh install               there: installs the wheels
#   bash bench/gpu.sh put TO                there: moves the pieces that were carried to the folder TO, each into the folder it came from
#   bash bench/gpu.sh back RUNS TO          there: gpu.json and small checkpoints, in parts of 15 MB
#   bash bench/gpu.sh forth FROM RUNS       there, later: the folder RUNS from these parts, without experts
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=(fastcore==1.14.5 fastai==2.8.7 fastprogress==1.0.3 fasttransform==0.0.2 fastdownload==0.0.8 plum-dispatch==2.9.0 beartype==0.23.1 charset-normalizer)
case "${1:-}" in
fetch)
    mkdir -p .gpu/wheels
    python3 -m pip download -q --no-deps --only-binary=:all: --python-version "${2:-3.12}" --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d .gpu/wheels "${wheels[@]}"
    du -sh .gpu/wheels ;;
install)
    python3 -m pip install -q --no-index --no-deps --no-compile --upgrade --target .gpu/site .gpu/wheels/*.whl
    PYTHONPATH="$PWD/.gpu/site:$PWD" python3 -c 'import edf_nrr.all, fastai.learner, torch; print("ready: torch", torch.__version__, torch.cuda.is_available())' ;;
pieces)
    shift; rm -rf .gpu/data-*; n=1; size=0; limit=$((${PIECE:-54}*1000000))
    for folder in "$@"; do for f in "$folder"/*.parquet; do
        b=$(stat -c %s "$f")
        if ((size+b>limit && size>0)); then n=$((n+1)); size=0; fi
        mkdir -p ".gpu/data-$n/$(basename "$folder")"; cp "$f" ".gpu/data-$n/$(basename "$folder")/"; size=$((size+b))
    done; done
    du -sh .gpu/data-* ;;
put)
    for d in .gpu/data-*; do mkdir -p "$2"; cp -r "$d"/. "$2"; done
    find "$2" -name '*.parquet' | sort ;;
back)
    mkdir -p "$3"; cp "$2/gpu.json" "$3"
    (cd "$2" && find . -type f -size -8M ! -path './experts_*' | sort | tar czf - -T -) | split -b 15000000 -d - "$3/runs.tar.gz." ;;
forth)
    mkdir -p "$3"; cat "$2"/runs.tar.gz.* | tar xzf - -C "$3"
    rm -f "$3"/steps/*_experts.json ;; # experts are recorded again
*) sed -n '2,10p' "$0"; exit 1 ;;
esac
