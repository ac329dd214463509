#!/usr/bin/env bash
# Installs what building and testing Slope needs. Says and does nothing where all is there.
#   scripts/setup.sh [--no-tests]      --no-tests: without what only the tests need
set -euo pipefail

tests=1
case "${1-}" in
"") ;;
--no-tests) tests=0 ;;
*)
    echo "usage: scripts/setup.sh [--no-tests]" >&2
    exit 2
    ;;
esac

has() { command -v "$1" >/dev/null 2>&1; }

# Does a C program with these headers ("a.h b.h") and libraries ("-la -lb") link?
links() {
    local work status=0 compiler=cc
    has cc || compiler=gcc
    has $compiler || return 1
    work=$(mktemp -d)
    {
        printf '#include <%s>\n' stdarg.h stddef.h stdint.h setjmp.h stdio.h $1
        echo 'int main(void) { return 0; }'
    } >"$work/a.c"
    # shellcheck disable=SC2086 # the list is meant to be split
    "$compiler" "$work/a.c" -o "$work/a" $2 >/dev/null 2>&1 || status=1
    rm -rf "$work"
    return $status
}

newer_cmake() {
    has cmake || return 1
    local version
    version=$(cmake --version | awk 'NR == 1 {print $3}')
    [ "$(printf '%s\n3.25\n' "$version" | sort -V | head -n 1)" = 3.25 ]
}

missing=() optional=() # Debian packages
need() { missing+=("$1"); }
want() { optional+=("$1"); }

has cc || has gcc || need gcc
has c++ || has g++ || need g++
newer_cmake || need cmake
has ninja || need ninja-build
headers="cjson/cJSON.h zlib.h curl/curl.h png.h" libraries="-lcjson -lz -lcurl -lpng"
[ $tests = 0 ] || headers+=" cmocka.h Random123/philox.h" libraries+=" -lcmocka"
if ! links "$headers" "$libraries"; then # something is missing: what?
    links cjson/cJSON.h -lcjson || need libcjson-dev
    links zlib.h -lz || want zlib1g-dev
    links curl/curl.h -lcurl || want libcurl4-openssl-dev
    links png.h -lpng || want libpng-dev
    if [ $tests = 1 ]; then
        links cmocka.h -lcmocka || need libcmocka-dev
        links Random123/philox.h "" || want librandom123-dev
    fi
fi
has gnuplot || want gnuplot-nox
if [ $tests = 1 ]; then
    has pkg-config || want pkg-config
    has python3 || want python3
    has valgrind || want valgrind
    has clang-format || has clang-format-14 || want clang-format
fi
[ ${#missing[@]} = 0 ] && [ ${#optional[@]} = 0 ] && exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    if has sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then as_root=(sudo); else as_root=(none); fi
fi
all=("${missing[@]}" "${optional[@]}")
why=
if ! has apt-get; then
    why="this is no Debian or Ubuntu (no apt-get)"
elif [ "${as_root[0]-}" = none ]; then
    why="installing needs root, and there is no sudo"
else
    echo "installing: ${all[*]}" >&2
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends)
    if ! "${install[@]}" "${all[@]}" >/dev/null 2>&1; then
        # The lists of packages may be old or absent; and one package without a candidate must not stop the others.
        "${as_root[@]}" apt-get update -q >/dev/null 2>&1 || true
        if ! "${install[@]}" "${all[@]}" >/dev/null; then
            for package in "${all[@]}"; do "${install[@]}" "$package" >/dev/null 2>&1 || true; done
        fi
    fi
    # What is still missing after that?
    still=()
    for package in "${missing[@]}"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' || still+=("$package")
    done
    if [ ${#still[@]} = 0 ]; then
        newer_cmake && exit 0
        still=(cmake)
    fi
    missing=("${still[@]}")
    optional=()
    why="apt-get could not install it"
fi

if [ ${#missing[@]} != 0 ]; then
    echo "Slope needs what these Debian packages hold: ${missing[*]} ($why)." >&2
    echo "Install them, or what your system calls them, and run this again. CMake must be 3.25 or newer." >&2
    exit 1
fi
echo "note: without ${optional[*]} (Debian's names) some parts are left out; $why." >&2
