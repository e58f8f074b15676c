#!/usr/bin/env bash
# What a quarter of an hour with a GPU is worth, the most important first, each with its bound: tests/cuda (a minute),
# on_gpu (its parts' own bounds; a second call goes on), DLSR on CIFAR-10 seed by seed, its rows and its curve.
#
#   OOD_DATA=DATA OOD_WEIGHTS=WEIGHTS bash tests/performance/quarter.sh OUT [SECONDS [STEP ...]]
#
# OUT gets what each step said, results.tgz (parts as JSON, their sections, records) and summary.txt. Without data the
# embedded images serve, and DLSR is left out. DEVICE=cpu rehearses all of it, small.
set -u
out=$(realpath -m "$1")
whole=${2:-840}
steps=${*:3}
device=${DEVICE:-cuda}
mkdir -p "$out"
small=()
if [ "$device" = cpu ]; then
    export OOD_REHEARSE=cpu
    small=(--limit 20)
fi
slower=$([ "$device" = cpu ] && echo 4 || echo 1)

step() { # NAME SECONDS COMMAND...
    local name=$1 most=$(($2 * slower)) left=$((whole - SECONDS)) begun=$SECONDS
    shift 2
    if [ -n "$steps" ] && [[ " $steps " != *" $name "* ]]; then return; fi
    if [ $left -lt 20 ]; then
        echo "$name: no time left" | tee -a "$out/summary.txt"
        return
    fi
    timeout -s INT -k 15 $((most < left ? most : left)) "$@" >"$out/$name.txt" 2>&1
    echo "$name: status $?, $((SECONDS - begun)) s: $(tail -n 1 "$out/$name.txt" | cut -c1-200)" | tee -a "$out/summary.txt"
}

step machine 60 python3 -c "from benchmark.records import provenance; print(provenance.machine('$device'))"
step cuda 240 python3 -m pytest -n 6 -p no:cacheprovider --durations 10 tests/cuda
step on_gpu 540 python3 -m tests.performance.on_gpu --device "$device" --keep "$out/on_gpu"
if [ -n "${OOD_DATA:-}" ]; then
    cache=${TMPDIR:-/tmp}/quarter
    where=(--data "$OOD_DATA" --weights "$OOD_WEIGHTS" --cache "$cache" --pretrained tf_efficientnet_lite0 --device "$device")
    evidence=("${where[@]}" "${small[@]}" --fits "$cache/fits" --checkpoints "$cache/kept" --suite cifar10 --encoder imagenet)
    step dlsr 500 python3 -m tests.evidence.to_its_end "${evidence[@]}"
    step rows 120 python3 run_all.py --id cifar10 "${where[@]}" "${small[@]}" --results "$out/runs" --no-speed --no-images \
        --methods dlsr-{mse,mfsim,lr,lr-released,mse-first,mfsim-first}@imagenet {mahalanobis-layers,knn-layers,pca}@imagenet \
        --seeds 0 1 2
    step curve 90 python3 -m tests.evidence.curve "${evidence[@]}" --resolutions native --out "$out/curve.csv"
fi
cp results/SPEED.md "$out/SPEED.md"
tar -C "$out" -czf "$out/results.tgz" --ignore-failed-read on_gpu runs curve.csv 2>/dev/null
cat "$out/summary.txt"
