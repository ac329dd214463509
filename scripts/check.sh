#!/usr/bin/env bash
# Checks what no compiler and no test sees: the format, the direction of #includes, the length of files, words that
# stay out, and that code in the documents is the code of the files. Prints each violation; exit status 1 if any.
set -euo pipefail
cd "$(dirname "$0")/.."

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    mapfile -t files < <(git ls-files --cached --others --exclude-standard | sort -u | while read -r f; do [ -f "$f" ] && echo "$f"; done)
else
    mapfile -t files < <(find . -type f -not -path './build/*' -not -path './.git/*' -not -path './data/*' | sed 's|^\./||' | sort)
fi
like() { printf '%s\n' "${files[@]}" | grep -E "$1" || true; }

violations=0
report() { # NAME, violations on standard input
    local lines
    lines=$(cat)
    if [ -n "$lines" ]; then
        printf '%s:\n%s\n' "$1" "$lines"
        violations=$((violations + 1))
    else
        printf '%s: ok\n' "$1"
    fi
}

# --- format -------------------------------------------------------------------------------------------------------
# Versions of clang-format differ in details: 14 decides, another one only tells what it would change.
format=$(command -v clang-format-14 || command -v clang-format || true)
if [ -z "$format" ]; then
    echo "format: not checked, clang-format is missing"
else
    version=$("$format" --version | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1)
    wrong=$(like '\.(c|h|cpp|cu|cuh)$' | { xargs -r "$format" --dry-run -Werror 2>&1 || true; } |
        awk -F: '/: error: / { if (!count[$1]++) { order[++n] = $1; first[$1] = $2 } }
                 END { for (i = 1; i <= n; i++) printf "%s:%s: %d places\n", order[i], first[order[i]], count[order[i]] }')
    if [ "${version%%.*}" = 14 ]; then
        report "format (clang-format $version; clang-format -i mends it)" <<<"$wrong"
    else
        echo "format: clang-format $version is not 14, which decides; it would change $(grep -c . <<<"$wrong" || true) files"
    fi
fi

# --- direction of #includes ----------------------------------------------------------------------------------------
# A file may include what its own floor's line names; "slope" is include/slope, "top" the files right under src.
like '^(src|include)/.*\.(c|h|def|cu|cuh)$' | xargs -r awk '
    BEGIN {
        may["slope"] = "slope"
        may["core"] = "core slope"
        may["top"] = "top core slope"
        may["cpu"] = "cpu top core slope"
        may["cuda"] = "cuda top core slope"
        may["data"] = "data core slope"
        may["graph"] = "graph top core slope"
        may["ops"] = "ops graph top core slope"
        may["nn"] = "nn data ops graph top core slope"
        may["cli"] = "cli slope"
    }
    function floor_of(path, part) {
        if (path ~ /^(include\/)?slope\//) return "slope"
        sub(/^src\//, "", path)
        return split(path, part, "/") > 1 ? part[1] : "top"
    }
    function directory(path) { sub(/[^\/]*$/, "", path); return path }
    function exists(path, line, status) { status = (getline line < path); close(path); return status >= 0 }
    /^[ \t]*#[ \t]*include/ {
        floor = floor_of(FILENAME)
        target = $0
        if (match(target, /[<"][^>"]+[>"]/) == 0) next
        angle = substr(target, RSTART, 1) == "<"
        target = substr(target, RSTART + 1, RLENGTH - 2)
        if (target ~ /^(cuda|cublas|curand|cudnn|cooperative_groups|nvrtc|nvToolsExt|mma\.h)/ && floor != "cuda") {
            print FILENAME ":" FNR ": a CUDA header outside src/cuda: " target
            next
        }
        if (angle && target !~ /^slope\//) next
        if (target !~ /\// && exists(directory(FILENAME) target)) other = floor
        else other = floor_of(target)
        if (!(floor in may)) print FILENAME ":" FNR ": src/" floor " has no place in the house"
        else if (index(" " may[floor] " ", " " other " ") == 0)
            print FILENAME ":" FNR ": " floor " may not include " target
    }' | report "include direction"

# --- one idea a file -----------------------------------------------------------------------------------------------
like '^(src|include)/.*\.(c|h|def|cu|cuh)$' | xargs -r awk '
    FNR == 601 { print FILENAME ": longer than 600 lines" }' | report "file length"

# --- the project speaks of itself alone ----------------------------------------------------------------------------
like . | xargs -r grep -InE '/[w]ork/|\b(TO[D]O|FIX[M]E|XX[X])\b' | report "stray words" || true
like . | grep -vxE '\.ci/run|\.gitignore' | xargs -r grep -InE '\.\./[s]hared' | report "paths outside the project" || true

# --- code in the documents -----------------------------------------------------------------------------------------
# <!-- file: PATH --> before a block of code: the block is that file.  <!-- from: PATH --> : its lines stand in that file.
like '\.md$' | xargs -r awk '
    function whole(path, line, text, status) {
        text = ""
        while ((status = (getline line < path)) > 0) text = text line "\n"
        close(path)
        return text
    }
    /^<!-- (file|from): [^ ]+ -->$/ { kind = $2; path = $3; at = FNR; next }
    path != "" && !inside && /^```/ { inside = 1; block = ""; next }
    path != "" && inside && /^```/ {
        text = whole(path)
        if (text == "") print FILENAME ":" at ": " path " is missing"
        else if (kind == "file:" ? text != block : index(text, block) == 0)
            print FILENAME ":" at ": this block and " path " differ"
        inside = 0
        path = ""
        next
    }
    inside { block = block $0 "\n"; next }
    path != "" && NF { print FILENAME ":" at ": no block of code follows"; path = "" }
    END { if (inside) print FILENAME ":" at ": the block of code does not end" }' | report "code in the documents"

[ "$violations" = 0 ]
