#!/bin/sh
# Runs every example that docs/examples.md shows and compares what it prints.
#   test_examples.sh FOLDER_OF_EXAMPLES PAGE
set -u
examples=$(cd "$1" && pwd) page=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0 shown=0
for name in $(sed -n '/^```console/{n;s/^\$ //p}' "$page"); do
    shown=$((shown + 1))
    sed -n "/^\\\$ $name\$/,/^\`\`\`\$/p" "$page" | sed '1d;$d' > expected
    if ! "$examples/$name" > out 2> errors; then
        echo "$name failed:" && cat errors
        failed=1
    fi
    sed 's/ *$//' out > printed
    diff expected printed > difference || { echo "$name does not print what the page shows:" && cat difference && failed=1; }
done
for program in "$examples"/*; do
    name=$(basename "$program")
    [ -f "$program" ] && [ -x "$program" ] && [ "$name" != mnist_cnn ] || continue
    grep -q "^\\$ $name\$" "$page" || { echo "$name is not on the page" && failed=1; }
done
[ $shown -ge 10 ] || { echo "only $shown examples found on the page" && failed=1; }
exit $failed
