#!/usr/bin/env bash
# Gathers what a machine with a GPU may lack, for scripts/gpu-check.sh there: headers and libraries of cJSON, cmocka and
# zlib, Random123's headers, and MNIST. They go into .carry/, which git ignores and the build looks into.
#   scripts/gpu-pack.sh [FOLDER]      FOLDER: .carry unless given
# The libraries are this machine's: they serve on a machine of the same architecture whose C library is not older.
# MNIST is taken from $SLOPE_DATA_DIR/mnist or from the cache (~/.cache/slope/mnist); without it the digits that Slope
# draws are trained on.
set -euo pipefail
cd "$(dirname "$0")/.."
case "${1-}" in
-*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
to=${1:-.carry}
limit=50 # MiB
compiler=${CC:-cc}

missing=()
rm -rf "${to:?}"/{include,lib,data}
mkdir -p "$to/include" "$to/lib" "$to/data/mnist"

# Where the compiler finds a header: "" where it does not.
header() {
    printf '#include <%s>\n' stdarg.h stddef.h stdint.h setjmp.h "$1" | "$compiler" -x c -M - 2>/dev/null |
        tr -s "[:space:]\\\\" "\n" | grep -m 1 -F "/$1" || true
}

# A static library needs nothing when the programs run; a shared one is copied under the name that is linked and under
# the name that is loaded. No links: not every way to carry a folder keeps them.
library() { # NAME
    local file soname
    file=$("$compiler" -print-file-name="lib$1.a")
    if [ -f "$file" ]; then
        cp -L "$file" "$to/lib/lib$1.a"
        return
    fi
    file=$("$compiler" -print-file-name="lib$1.so")
    [ -f "$file" ] || return 1
    soname=$(readelf -d "$file" | sed -n 's/.*(SONAME).*\[\(.*\)\].*/\1/p')
    cp -L "$file" "$to/lib/lib$1.so"
    [ -z "$soname" ] || cp -L "$file" "$to/lib/$soname"
}

gather() { # PACKAGE, LIBRARY, HEADERS…
    local package=$1 name=$2 file folder
    shift 2
    for header; do
        file=$(header "$header")
        if [ -z "$file" ] || [ ! -f "$file" ]; then
            missing+=("$package ($header)")
            return
        fi
        folder=$to/include/$(dirname "$header")
        mkdir -p "$folder"
        cp -L "$file" "$folder/"
    done
    library "$name" || missing+=("$package (lib$name)")
}

gather libcjson-dev cjson cjson/cJSON.h
gather libcmocka-dev cmocka cmocka.h
gather zlib1g-dev z zlib.h zconf.h
random123=$(header Random123/philox.h)
if [ -n "$random123" ]; then
    cp -rL "$(dirname "$random123")" "$to/include/Random123"
    rm -rf "$to/include/Random123/conventional" # GSL and C++ adaptors: not used
else
    missing+=(librandom123-dev)
fi

found=
for folder in ${SLOPE_DATA_DIR:+"$SLOPE_DATA_DIR/mnist"} "${XDG_CACHE_HOME:-${HOME-}/.cache}/slope/mnist"; do
    [ -f "$folder/train-images-idx3-ubyte.gz" ] || continue
    cp -L "$folder"/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz "$to/data/mnist/" && found=$folder
    break
done
[ -n "$found" ] || missing+=("MNIST as .gz files (SLOPE_DATA_DIR names another folder)")

size=$(du -sm "$to" | cut -f 1)
find "$to" -type f -not -path '*/Random123/*' -printf '%10s  %P\n' | sort -k 2
echo "$to: $size MiB of at most $limit; MNIST from ${found:-nowhere}"
if [ "${#missing[@]}" != 0 ]; then
    printf 'not here, so not packed: %s\n' "${missing[@]}" >&2
fi
if [ "$size" -gt "$limit" ]; then
    echo "that is too much" >&2
    exit 1
fi
for needed in include/cjson/cJSON.h include/cmocka.h; do # without these nothing is built, nothing is tested
    [ -f "$to/$needed" ] || exit 1
done
