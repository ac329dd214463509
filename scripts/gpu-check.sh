#!/usr/bin/env bash
# shellcheck disable=SC2016,SC2317 # the parts are run by their names, in a shell of their own
# One command for a machine with a GPU: builds for the GPU found, runs the tests on it, trains on CPU and GPU and compares
# the files, measures beside PyTorch, and runs the small tests under compute-sanitizer.
#   scripts/gpu-check.sh [--simulated] [--build DIR] [--out DIR] [--minutes N] [--only PART,PART…]
# --simulated  rehearses all this without a GPU, on the simulated device and with tiny sizes
# --build      where to build (default build/gpu, or build/gpu-simulated)
# --out        where to leave results.json, summary.md, plans.txt and log.txt (default $OUT, else build/gpu-check)
# --minutes    how long it may take in all (default 9); parts for which no time is left are skipped
# --only       these parts alone: build, tests, training, bench-train, accuracy, torch-train, bench-train-again,
#              bench-activations, torch-activations, plans, tests-guarded, sanitizers, tests-other, torch-compile
# PYTHON       the interpreters to look for PyTorch in (default: python3 /usr/bin/python3)
# What the machine lacks (cJSON, cmocka, zlib, MNIST) is looked for in .carry, where scripts/gpu-pack.sh puts it.
# Prints the summary last. Exit status 1 where a part failed or there is no GPU.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
root=$PWD

simulated='' build='' out=${OUT:-build/gpu-check} minutes=9 only=''
while [ $# -gt 0 ]; do
    case $1 in
    --simulated) simulated=yes && shift ;;
    --build) build=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --out) out=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --minutes) minutes=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    --only) only=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
    *)
        sed -n '3,/^set/s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
    esac
done
: "${build:=build/gpu${simulated:+-simulated}}"
budget=$((minutes * 60 - 20)) # seconds; the summary takes a few
jobs=$(nproc 2>/dev/null || echo 2)
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
rm -f "$out"/{results.json,summary.md,plans.txt,log.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/logs" "$work/data"
export root build work simulated jobs
scale=1 # of the parts' limits
[ -z "$simulated" ] || scale=4

# --- the parts -----------------------------------------------------------------------------------------------------
note() { # NAME STATUS SECONDS SENTENCE
    printf '%s\t%s\t%s\t%s\n' "$@" >>"$work/parts"
    printf '%4d s  %-18s %-8s %s\n' "$SECONDS" "$1" "$2" "$4"
}

# Runs a function of this script for at most SECONDS; it may leave a sentence in $work/note-NAME.
part() { # NAME SECONDS FUNCTION ARGUMENTS…
    local name=$1 limit=$2 begin=$SECONDS status left sentence=''
    shift 2
    case ,$only, in
    ,, | *,$name,*) ;;
    *) return 0 ;;
    esac
    left=$((budget - SECONDS))
    if [ "$left" -lt 15 ]; then
        note "$name" skipped 0 "no time was left"
        return 1
    fi
    limit=$((limit * scale))
    [ "$limit" -lt "$left" ] || limit=$left
    export part_end=$(($(date +%s) + limit)) part_name=$name
    timeout --kill-after=5 "$limit" bash -c 'set -uo pipefail; cd "$root"; "$@"' part "$@" >"$work/logs/$name" 2>&1 </dev/null
    status=$?
    [ ! -f "$work/note-$name" ] || sentence=$(tail -n 1 "$work/note-$name")
    case $status in
    0) note "$name" passed $((SECONDS - begin)) "$sentence" ;;
    77) note "$name" skipped $((SECONDS - begin)) "$sentence" ;;
    124 | 137) note "$name" FAILED $((SECONDS - begin)) "stopped after its $limit s${sentence:+; $sentence}" ;;
    *) note "$name" FAILED $((SECONDS - begin)) "${sentence:-exit status $status}" ;;
    esac
    return "$status"
}
say() { printf '%s\n' "$*" >"$work/note-$part_name"; }
left() { echo $((part_end - $(date +%s))); }
export -f say left

# --- the machine ---------------------------------------------------------------------------------------------------
for folder in "${CUDA_HOME-}" "${CUDA_PATH-}" /usr/local/cuda; do
    if [ -x "$folder/bin/nvcc" ]; then export PATH=$PATH:$folder/bin; fi
done

# What was carried here stands in for what the machine lacks.
if [ -d .carry ]; then
    export LD_LIBRARY_PATH=$root/.carry/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export CPATH=$root/.carry/include${CPATH:+:$CPATH} LIBRARY_PATH=$root/.carry/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
    [ -n "${SLOPE_DATA_DIR-}" ] || export SLOPE_DATA_DIR=$root/.carry/data
fi
export SLOPE_DATA_MIRROR=off

python='' torch=''
for candidate in ${PYTHON:-python3 /usr/bin/python3}; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    : "${python:=$candidate}"
    if version=$("$candidate" -c 'import torch; print(torch.__version__)' 2>/dev/null); then
        python=$candidate torch=$version
        break
    fi
done
export python

gpu='' architectures=native
if [ -z "$simulated" ]; then
    if command -v nvidia-smi >/dev/null 2>&1; then
        gpu=$(nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null | grep -v -i 'fail\|no devices' | head -n 1)
        found=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | grep -E '^[0-9]+\.[0-9]+$' | tr -d . | sort -u | paste -s -d ';')
        [ -z "$found" ] || architectures=$found
    fi
    if [ -z "$gpu" ] && [ -n "$torch" ]; then
        gpu=$("$python" -c 'import torch; print(torch.cuda.get_device_name())' 2>/dev/null)
    fi
fi
export architectures

{
    echo "date: $(date -u +%Y-%m-%dT%H:%MZ)"
    echo "device: ${simulated:+simulated}${gpu:-$([ -n "$simulated" ] || echo "no GPU")}"
    echo "built for: $([ -n "$simulated" ] && echo "the simulated device" || echo "$architectures")"
    echo "processor: $(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1), $jobs CPUs"
    echo "toolkit: $(nvcc --version 2>/dev/null | sed -n 's/.*release \([0-9.]*\).*/\1/p' | grep . || echo none)"
    echo "compiler: $(cc --version 2>/dev/null | head -n 1)"
    echo "cmake: $(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')"
    echo "pytorch: ${torch:-none}"
    echo "commit: $(git describe --always --dirty 2>/dev/null || echo unknown)"
} >"$work/machine"
cat "$work/machine"

# --- what the parts do ---------------------------------------------------------------------------------------------
do_build() {
    local options=(-DCMAKE_BUILD_TYPE=Release -DSLOPE_BENCH=ON -DSLOPE_EXAMPLES=OFF -DSLOPE_TESTS=ON) status=0
    if [ -n "$simulated" ]; then
        options+=(-DSLOPE_SIMT=ON)
    else
        options+=(-DSLOPE_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=$architectures")
    fi
    if ! cmake -S . -B "$build" -G Ninja "${options[@]}"; then
        say "CMake's complaint stands in the log; scripts/gpu-pack.sh gathers missing packages"
        # The library and the command need less than the tests.
        cmake -S . -B "$build" -G Ninja "${options[@]}" -DSLOPE_TESTS=OFF || return 1
        status=1
    fi
    # What can be built is built, whatever else cannot.
    cmake --build "$build" --parallel "$jobs" -- -k 0 || {
        say "not everything compiles"
        status=1
    }
    return "$status"
}

run_ctest() { # PARALLEL ARGUMENTS…
    local parallel=$1 status all run
    shift
    all=$(ctest --test-dir "$build" -N "$@" | sed -n 's/^Total Tests: //p')
    # A test's own limit may be longer than what is left for all.
    ctest --test-dir "$build" --no-tests=error --output-on-failure --parallel "$parallel" \
        --stop-time "$(date -d "+$(($(left) > 20 ? $(left) - 8 : 12)) seconds" +%H:%M:%S)" "$@" | tee "$work/ctest-$part_name"
    status=${PIPESTATUS[0]}
    run=$(sed -n 's/^[0-9]*% tests passed, .* out of \([0-9]*\)$/\1/p' "$work/ctest-$part_name")
    [ "${run:-0}" = "$all" ] || status=1 # the time was up
    say "$(sed -n 's/^\([0-9]*% tests passed, .*\)/\1/p' "$work/ctest-$part_name") (of $all)$(
        sed -n '/tests FAILED:/,$s/^.* - \(test_[a-z0-9_]* (.*)\)$/; \1/p' "$work/ctest-$part_name" | tr -d '\n'
    )"
    return "$status"
}
do_gpu_tests() { run_ctest $((jobs < 4 ? jobs : 4)) -L cuda; }
do_guarded_tests() { SLOPE_GUARD=1 run_ctest $((jobs < 4 ? jobs : 4)) -L cuda; }
do_other_tests() {
    local left_out=()
    # An installed library looks for cJSON where the system has it.
    if grep -q '^CJSON_LIBRARY.*/\.carry/' "$build/CMakeCache.txt"; then left_out=(-E '^test_install_'); fi
    run_ctest $((jobs < 4 ? jobs : jobs / 2)) -LE cuda "${left_out[@]}"
}

# --- training ---
train() { # MODEL DEVICE NAME OPTIONS…
    local model=$1 device=$2 name=$1-$3
    shift 3
    if [ "$(left)" -lt 15 ]; then
        echo "$name: no time was left" >>"$work/data/train-failed"
        return
    fi
    timeout $(($(left) - 8)) "$build/slope" train --model "$model" --seed 1 --device "$device" --quiet \
        --log "$work/data/train-$name.jsonl" --out "$work/data/$name.safetensors" "$@" >"$work/data/train-$name.out" 2>&1 ||
        echo "$name: $(tail -n 1 "$work/data/train-$name.out")" >>"$work/data/train-failed"
}
train_on() { # cpu | cuda
    local model options epochs=2 images=200
    for model in softmax mlp lenet cnn; do
        if [ "$model" = cnn ]; then epochs=1 images=24; fi
        options=(--batch 128 --epochs "$epochs")
        [ -z "$simulated" ] || options=(--batch 8 --epochs 1 --limit-train "$images" --limit-test 100)
        options+=(--data "$(cat "$work/dataset")")
        if [ "$1" = cpu ]; then
            train "$model" cpu cpu "${options[@]}"
        else
            train "$model" cuda default "${options[@]}"
            train "$model" cuda exact --exact "${options[@]}"
        fi
    done
}
do_training() {
    local model same=() differ=()
    echo digits >"$work/dataset"
    if "$build/slope" train --quiet --device cpu --data mnist --model softmax --epochs 1 --limit-train 1 --limit-test 1; then
        echo mnist >"$work/dataset"
    fi
    train_on cpu &
    train_on cuda
    wait
    for model in softmax mlp lenet cnn; do
        if cmp "$work/data/$model-cpu.safetensors" "$work/data/$model-exact.safetensors"; then
            same+=("$model")
        else
            differ+=("$model")
        fi
    done
    printf '%s\n' "${same[@]}" >"$work/data/same-bytes"
    say "exact mode, CPU against ${simulated:+simulated }device: same bytes for ${same[*]:-none}${differ[*]:+, NOT for ${differ[*]}}"
    cat "$work"/data/train-*.out "$work"/data/train-failed 2>/dev/null
    [ ${#differ[@]} = 0 ] && [ ! -s "$work/data/train-failed" ]
}
do_plans() {
    local model status=0
    for model in softmax mlp lenet cnn; do
        "$build/slope" info "$model" --device cuda --batch 128 || status=1
        printf '\n'
    done >"$work/plans.txt" 2>&1
    [ "$status" = 0 ] || tail -n 3 "$work/plans.txt"
    return "$status"
}

# --- benchmarks ---
do_bench() { # FILE OPTIONS…
    local file=$1
    shift
    "$build/bench/bench_train" --device cuda --json "${bench_options[@]}" "$@" | tee -a "$work/data/$file"
}
do_bench_train() {
    local bench_options=(--batch 128 --rounds 5) status=0
    [ -z "$simulated" ] || bench_options=(--rounds 1)
    do_bench bench_train || status=1
    do_bench bench_train --exact || status=1
    do_bench bench_train --precision tf32 || status=1
    do_bench bench_train --precision bf16 || status=1
    return "$status"
}
do_accuracy() {
    local precision options=(--seeds 5)
    [ -z "$simulated" ] || options=(--seeds 1 --data digits --limit-train 32 --limit-test 32 --batch 8 --epochs 1 --checks 1)
    for precision in fp32 tf32; do
        "$build/bench/time_to_accuracy" --recipe recipes/mnist-cuda.txt --device cuda --precision "$precision" \
            "${options[@]}" || return 1
    done
}
do_bench_again() { # the same once more, after PyTorch: the two turns tell how steady the machine is
    local bench_options=(--batch 128 --rounds 5)
    [ -z "$simulated" ] || bench_options=(--rounds 1)
    do_bench bench_train_again
}
do_bench_activations() {
    "$build/bench/bench_activations" --device cuda --json | tee "$work/data/bench_activations"
}
torch_train() { # MODES [MODEL]
    local options=(--device cuda --batch 128 --rounds 5 --budget $(($(left) > 30 ? $(left) - 25 : 1)))
    [ -z "$simulated" ] || options=(--device cpu --batch 8 --steps 2 --rounds 1 --budget 60)
    "$python" bench/peers/torch_train.py "${options[@]}" --mode "$1" ${2:+--model "$2"} | tee -a "$work/data/torch_train"
}
torch_said() { # what the lines so far hold; false where nothing was measured
    local measured
    measured=$(grep -c samples_per_second "$work/data/torch_train")
    say "$measured measured, $(grep -c '"failed": "' "$work/data/torch_train") not"
    [ "$measured" != 0 ]
}
do_torch_train() {
    torch_train eager+fused,graph+fused,graph+fused+last,graph+fused+last+tf32
    torch_said
}
do_torch_compile() {
    local model
    for model in mlp cnn lenet; do torch_train compile+fused,reduce+fused "$model"; done
    torch_said
}
do_torch_activations() {
    local options=(--device cuda --budget $(($(left) > 30 ? $(left) - 15 : 1)))
    [ -z "$simulated" ] || options=(--device cpu --elements 16384 --rounds 1 relu)
    "$python" bench/peers/torch_activations.py "${options[@]}" | tee "$work/data/torch_activations"
    grep -q gb_per_second "$work/data/torch_activations"
}

# --- compute-sanitizer ---
sanitize() { # TOOL PROGRAM ARGUMENTS…
    local tool=$1 name log status limit
    shift
    name=$tool-$(basename "$1")$([ "$1" != "$build/slope" ] || echo "-$4")
    log=$work/logs/sanitizer-$name
    limit=$(($(left) - 8))
    [ "$limit" -lt 60 ] || limit=60
    if [ "$limit" -lt 5 ]; then
        printf '%s\tunfinished\n' "$name" | tee -a "$work/data/sanitizer"
        return
    fi
    timeout --kill-after=3 "$limit" compute-sanitizer --tool "$tool" --error-exitcode 99 "$@" >"$log" 2>&1
    status=$?
    case $status in
    0) status=clean ;;
    124 | 137) status=unfinished ;;
    99) status=ERRORS ;;
    *) status="FAILED, exit status $status" ;;
    esac
    if grep -q 'ERROR SUMMARY: *[1-9]' "$log"; then status=ERRORS; fi
    printf '%s\t%s\n' "$name" "$status" | tee -a "$work/data/sanitizer"
}
export -f sanitize
do_sanitizers() {
    local tool model test
    if ! command -v compute-sanitizer >/dev/null 2>&1; then
        say "compute-sanitizer is not on this machine"
        return 77
    fi
    for tool in memcheck racecheck initcheck synccheck; do
        for model in mlp lenet cnn; do
            echo "$tool $build/slope train --model $model --data digits --limit-train 16 --limit-test 8 --batch 8 --epochs 1 --device cuda --quiet"
        done
        for test in "$build"/tests/test_cuda_*; do
            [ ! -f "$test" ] || [ ! -x "$test" ] || echo "$tool $test"
        done
    done | xargs -P $((jobs < 8 ? (jobs + 1) / 2 : 6)) -I '{}' bash -c 'sanitize {}'
    say "$(awk -F '\t' '{ n[$2]++ } END { for (s in n) printf "%s%d %s", c++ ? ", " : "", n[s], s }' "$work/data/sanitizer")"
    ! grep -q -E 'ERRORS|FAILED' "$work/data/sanitizer"
}
export -f do_build run_ctest do_gpu_tests do_guarded_tests do_other_tests train train_on do_training do_plans \
    do_bench do_bench_train do_accuracy do_bench_again do_bench_activations torch_train torch_said do_torch_train do_torch_compile \
    do_torch_activations do_sanitizers

# --- in order of importance ----------------------------------------------------------------------------------------
if [ -z "$simulated" ] && [ -z "$gpu" ]; then
    note machine FAILED 0 "no GPU was found (nvidia-smi shows none); --simulated rehearses without one"
else
    [ -n "$simulated" ] || export SLOPE_REQUIRE_GPU=1
    part build $((budget / 2 / scale)) do_build
    if [ -x "$build/slope" ]; then
        if [ -f "$build/CTestTestfile.cmake" ] && [ -d "$build/tests" ]; then
            part tests 120 do_gpu_tests
        else
            note tests FAILED 0 "not built: cmocka is missing (scripts/gpu-pack.sh)"
        fi
        part training 120 do_training
        part bench-train 60 do_bench_train
        part accuracy 30 do_accuracy
        part bench-activations 40 do_bench_activations
        if [ -n "$torch" ]; then
            part torch-train 90 do_torch_train
            part bench-train-again 30 do_bench_again
            part torch-activations 40 do_torch_activations
        else
            note torch-train skipped 0 "no Python here has PyTorch (PYTHON names others)"
        fi
        part plans 20 do_plans
        [ ! -d "$build/tests" ] || part tests-guarded 60 do_guarded_tests
        if [ -n "$simulated" ]; then
            part sanitizers 60 do_sanitizers
        else
            part sanitizers 150 do_sanitizers & # beside the tests of everything else, which need no GPU
        fi
        [ ! -d "$build/tests" ] || part tests-other 150 do_other_tests
        wait
        [ -z "$torch" ] || part torch-compile 120 do_torch_compile
    else
        note rest skipped 0 "there is no build/slope to run"
    fi
fi

# --- results -------------------------------------------------------------------------------------------------------
[ ! -s "$work/plans.txt" ] || cp "$work/plans.txt" "$out/plans.txt"
for log in "$work"/logs/*; do
    [ -f "$log" ] || continue
    printf '\n===== %s\n' "$(basename "$log")"
    tail -c 400000 "$log"
done >"$out/log.txt"
status=0
if grep -q -P '^[^\t]*\tFAILED\t' "$work/parts"; then status=1; fi
echo
if ! { [ -n "$python" ] && "$python" bench/gpu_report.py "$work" "$out" "${simulated:+simulated}"; }; then
    printf 'No report could be made; the parts were:\n' | cat - "$work/parts" | tee "$out/summary.md"
    status=1
fi
exit $status
