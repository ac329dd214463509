#!/usr/bin/env bash
# Makes docs/cards: a page for each row of activations.def, and an index.
#   cards.sh SLOPE [options of slope card]     SLOPE is the path of the command
# Takes about a minute on two quiet cores. Without further options no times are measured (--no-bench), so that the pages
# come out the same everywhere; accuracies of a comparison: --no-bench --from DIR, which must hold every row.
set -euo pipefail
if [ $# -lt 1 ]; then
    sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2
    exit 2
fi
slope=$(realpath "$1")
shift
[ $# -gt 0 ] || set -- --no-bench
cd "$(dirname "$0")/.."
mkdir -p docs/cards
index=docs/cards/README.md
{
    echo "# The activations, a page each"
    echo
    echo "Made by \`scripts/cards.sh\`; \`slope card\` makes such a page for any activation or expression."
    echo
    echo "Gain: 1/√(mean f²) for a normal x. Mean f′²: what is left of a gradient's square behind the function, before the gain."
    echo "First / last: gradient norm of the first hidden layer over that of the last, in 40 layers before training."
    echo
    echo "| | gain | mean f′² | default initialiser | first / last, 40 layers | error of the value in ulp, up to 4 |"
    echo "|---|---|---|---|---|---|"
} >"$index.new"
sed -n 's/^ACTIVATION([A-Z0-9_]*, "\([a-z0-9_]*\)".*/\1/p' include/slope/activations.def | while read -r name; do
    "$slope" card "$name" "$@" --quiet --out "docs/cards/$name.md" >&2
    awk -F' *[|] *' -v name="$name" '
        /^[|] mean of f [|]/ { getline; getline; square = $4; gain = $5; init = $6 }
        /^[|] 40 [|]/ { ratio = $7 }
        /^- value: / { split($0, word, " "); ulp = word[3] }
        END { printf "| [%s](%s.md) | %s | %s | %s | %s | %s |\n", name, name, gain, square, init, ratio, ulp }' "docs/cards/$name.md"
done >>"$index.new"
mv "$index.new" "$index"
