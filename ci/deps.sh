#!/bin/bash
# ci/deps.sh demo|test|browser: what a target needs from Debian 12 beyond the README's prerequisite line.
#
# It looks first. When nothing lacks it uses neither the network nor any privilege; otherwise it prints the
# one apt-get line that mends it and runs that line as root, or by a sudo that asks no password, or stops
# with exit code 2 and leaves the line to the reader. Only apt-get ever runs with privileges.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

# One line a package: its name, then a command that succeeds where something else already provides it.
# Without such a command dpkg is asked.
packages() {
    case $1 in
    demo)
        cat <<'LIST'
elixir              command -v mix
erlang-p1-sqlite3
libsqlite3-dev
pkg-config          command -v pkg-config
python3             command -v python3
python3-venv        python3 -c "import ensurepip, venv"
sqlite3             command -v sqlite3
LIST
        ;;
    test)
        packages demo
        cat <<'LIST'
erlang-dialyzer
erlang-jiffy
erlang-p1-pgsql
erlang-poolboy
erlang-proper
g++                 command -v g++
libcurl4-openssl-dev pkg-config --exists libcurl
libpq-dev           pkg-config --exists libpq
postgresql-15       test -x /usr/lib/postgresql/15/bin/initdb
shellcheck          command -v shellcheck
valgrind            command -v valgrind
LIST
        ;;
    browser)
        echo "chromium            command -v chromium"
        ;;
    *)
        echo "usage: ci/deps.sh demo|test|browser (got \"$1\")" >&2
        exit 64
        ;;
    esac
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

lacking() {
    local package probe
    while read -r package probe; do
        if [ -n "$probe" ]; then
            bash -c "$probe" >/dev/null 2>&1 </dev/null || echo "$package"
        else
            installed "$package" || echo "$package"
        fi
    done < <(packages "$1")
}

# Rust does not come from Debian: 12's is too old. This only tells how to get there.
check_rust() {
    local want have
    want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -1)
    if ! command -v cargo >/dev/null || ! have=$(rustc --version 2>/dev/null); then
        echo "deps: no Rust found; install Rust $want or newer, for example by rustup" >&2
        exit 2
    fi
    have=$(cut -d' ' -f2 <<<"$have")
    if [ "$(printf '%s\n' "$want" "${have%%-*}" | sort -V | head -1)" != "$want" ]; then
        echo "deps: rustc is $have, needed is $want or newer; update it: rustup update stable" >&2
        exit 2
    fi
}

# As one would type it.
shown() {
    local word words=()
    for word in "$@"; do
        if [[ $word == *[\ \&\>]* ]]; then words+=("'$word'"); else words+=("$word"); fi
    done
    echo "${words[*]}"
}

install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120)
    # Debian's package of the server would make a cluster and start it, which nobody asked for.
    local conf=/etc/postgresql-common/createcluster.d
    if [[ " $* " == *" postgresql-"* ]]; then
        apt+=(-o "DPkg::Pre-Invoke::=mkdir -p $conf && echo create_main_cluster=false >$conf/no_main_cluster.conf")
    fi
    local line=("${apt[@]}" install -y --no-install-recommends "$@") lists=yes
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || lists=no
    [ $lists = yes ] || echo "deps: $(shown "${apt[@]}") update"
    echo "deps: $(shown "${line[@]}")"
    local as=()
    if ! command -v apt-get >/dev/null; then
        echo "deps: this is no Debian; install what these packages hold by its own means, then try again" >&2
        exit 2
    elif [ "$(id -u)" != 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "deps: run the above as root, then try again" >&2
            exit 2
        fi
        as=(sudo -n)
    fi
    if [ $lists = no ]; then
        "${as[@]}" "${apt[@]}" update </dev/null
    elif "${as[@]}" "${line[@]}" </dev/null; then
        return
    else
        echo "deps: the install failed; trying once more with new package lists"
        "${as[@]}" "${apt[@]}" update </dev/null
    fi
    "${as[@]}" "${line[@]}" </dev/null
}

target=${1:-}
packages "$target" >/dev/null
check_rust
mapfile -t missing < <(lacking "$target")
if [ ${#missing[@]} -gt 0 ]; then
    install "${missing[@]}"
fi
