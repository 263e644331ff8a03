#!/bin/bash
# ci/fresh.sh TARGET: does `make TARGET` work on a machine that has only what the README asks for?
#
# Bootstraps a minimal Debian 12 under target/fresh, installs the README's prerequisite line, copies this
# machine's Rust toolchain and a clone of HEAD (never the work tree) in, and runs `make TARGET` there: as root,
# then as a plain user without sudo, who must find that nothing lacks any more. Before that the plain user must
# have been stopped by ci/deps.sh with exit code 2 and the line to run.
#
# Debian's mirror, proxies and certificates are those that this machine is configured with. The bootstrapped
# base is kept for the next run; FRESH_KEEP=1 also keeps the machine itself, to look at after a failure.
# Needs root, debootstrap and a Linux with namespaces: mounts and left-over processes end with the run.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

target=${1:?usage: ci/fresh.sh TARGET, for example demo or test}
fresh=$PWD/target/fresh
machine=$fresh/machine
prerequisites=$(git show HEAD:README.md | sed -n 's/.*apt-get install \([a-z0-9.+ -]*\).*/\1/p' | head -1)
[ -n "$prerequisites" ] || { echo "fresh: README.md has no 'apt-get install ...' line" >&2; exit 1; }
sysroot=$(rustc --print sysroot)
user=newcomer

# Variables by which this machine reaches its registries; never a credential.
reach() {
    local name
    for name in $(compgen -e | grep -iE '^((https?|no|all)_proxy|SSL_CERT_FILE|CURL_CA_BUNDLE|REQUESTS_CA_BUNDLE|GIT_SSL_CAINFO|PIP_(CERT|INDEX_URL|PROXY|TRUSTED_HOST|DEFAULT_TIMEOUT)|CARGO_(HTTP|NET|REGISTRIES|SOURCE)_.*)$' |
        grep -vE 'TOKEN|CREDENTIAL|PASSWORD'); do
        printf '%s=%s\n' "$name" "${!name}"
    done
}

# inside ROOT UID HOME COMMAND...: runs in the machine with a clean environment and no input.
inside() {
    local root=$1 as=$2 home=$3
    shift 3
    local env=(HOME="$home" USER="$as" LOGNAME="$as" SHELL=/bin/bash LC_ALL=C.UTF-8 CI=true)
    env+=(PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    local reach
    mapfile -t reach < <(reach)
    chroot --userspec="$as" --groups="$as" "$root" env -i "${env[@]}" "${reach[@]}" "$@" </dev/null
}

# mount_kernel ROOT: what programs expect of a running kernel, in the mount namespace of this run only.
mount_kernel() {
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    mount -t tmpfs tmpfs "$1/dev/shm"
}

apt_in() {
    inside "$1" root /root env DEBIAN_FRONTEND=noninteractive apt-get -q "${@:2}"
}

build_base() {
    local building=$base.building sources mirror
    rm -rf --one-file-system "$fresh"/base-*
    # Format independent: apt itself says where this machine gets bookworm from.
    sources=$(apt-get indextargets --format "\$(REPO_URI) \$(RELEASE) \$(COMPONENT)" 'Created-By: Packages' |
        awk '$2 ~ /^bookworm/ && $3 == "main" && !seen[$0]++')
    mirror=$(awk '$2 == "bookworm" { print $1; exit }' <<<"$sources")
    if [ -z "$mirror" ]; then
        echo "fresh: apt of this machine knows no mirror of Debian 12 (bookworm main)" >&2
        exit 1
    fi
    echo "== fresh: a minimal Debian 12"
    debootstrap --variant=minbase bookworm "$building" "$mirror" >"$fresh/debootstrap.log" ||
        { tail -20 "$fresh/debootstrap.log" >&2; exit 1; }
    awk '{ print "deb " $0 }' <<<"$sources" >"$building/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(Check-|https?::Proxy|Retries)' >"$building/etc/apt/apt.conf.d/90machine" || true

    cp /etc/resolv.conf /etc/hosts "$building/etc/"
    local file
    for file in /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates /etc/pip.conf; do
        if [ -e "$file" ]; then
            mkdir -p "$building$(dirname "$file")"
            cp -rL "$file" "$building$(dirname "$file")/"
        fi
    done

    echo "== fresh: apt-get install $prerequisites"
    mount_kernel "$building"
    {
        apt_in "$building" update
        # shellcheck disable=SC2086 # the README's line, word by word
        apt_in "$building" install -y --no-install-recommends $prerequisites
        apt_in "$building" clean
    } >"$fresh/prerequisites.log" 2>&1 || { tail -20 "$fresh/prerequisites.log" >&2; exit 1; }
    umount -R "$building/proc" "$building/dev"
    # As in an image that nobody has used yet: ci/deps.sh has to fetch the lists.
    find "$building/var/lib/apt/lists" -type f -delete

    echo "== fresh: Rust toolchain and a plain user"
    mkdir -p "$building/usr/local/rust"
    tar -C "$sysroot" --exclude=./share/doc -cf - . | tar -C "$building/usr/local/rust" --no-same-owner -xf -
    chroot "$building" useradd --create-home --shell /bin/bash $user
    local home settings=${CARGO_HOME:-$HOME/.cargo}/config.toml
    for home in root home/$user; do
        mkdir -p "$building/$home/.cargo"
        [ ! -e "$settings" ] || cp "$settings" "$building/$home/.cargo/"
    done
    chroot "$building" chown -R $user: /home/$user
    mv "$building" "$base"
}

# Whatever goes into a base names it, so that a change to any of it builds another.
base=$fresh/base-$(printf '%s\n' "$prerequisites" "$(rustc -vV)" "$(declare -f build_base)" | cksum | cut -d' ' -f1)

passed=0 failed=0 report=()
note() { # note STATUS TEXT
    if [ "$1" = 0 ]; then
        passed=$((passed + 1)) report+=("fresh: $2: passed")
    else
        failed=$((failed + 1)) report+=("fresh: $2: FAILED")
    fi
}

# make_as USER HOME: clone HEAD into the user's home and run the target.
make_as() {
    local as=$1 home=$2 start=$SECONDS status=0
    git clone --quiet --no-hardlinks "$PWD" "$machine$home/elixirscope"
    chroot "$machine" chown -R "$as:" "$home/elixirscope"
    echo "== fresh: make $target as $as"
    inside "$machine" "$as" "$home" make -C "$home/elixirscope" "$target" 2>&1 |
        tee "$fresh/$target-$as.log" || status=$?
    note $status "make $target as $as, $((SECONDS - start)) s"
}

refusal() {
    local output status=0
    git clone --quiet --no-hardlinks "$PWD" "$machine/home/$user/look"
    chroot "$machine" chown -R $user: /home/$user/look
    output=$(inside "$machine" $user /home/$user "/home/$user/look/ci/deps.sh" "$target" 2>&1) || status=$?
    printf '%s\n' "$output"
    if [ $status = 2 ]; then
        grep -q 'apt-get .*install' <<<"$output" || status=1
    fi
    note $((status != 2)) "ci/deps.sh $target without privileges stops with exit code 2 and the line to run"
}

run() {
    if [ ! -d "$base" ]; then
        build_base
    fi
    cp -a "$base" "$machine"
    mount_kernel "$machine"
    case $target in demo | test) refusal ;; esac
    make_as root /root
    make_as $user /home/$user
    printf '\nfresh: Debian %s, %s, commit %s\n' "$(cat "$machine/etc/debian_version")" \
        "$(inside "$machine" root /root rustc --version)" "$(git rev-parse --short HEAD)"
    printf '%s\n' "${report[@]}"
    echo "fresh: $passed passed, $failed failed"
    [ "$failed" = 0 ]
}

if [ "${2:-}" = in-namespace ]; then
    run
    exit
fi
if [ "$(id -u)" != 0 ] || ! command -v debootstrap >/dev/null; then
    echo "fresh: needs root and debootstrap (apt-get install debootstrap)" >&2
    exit 2
fi
# No mount of the namespace is visible out here, so removing the machine cannot reach past it.
discard() {
    rm -rf --one-file-system "$machine" "$fresh"/*.building
}
mkdir -p "$fresh"
discard
if [ "${FRESH_KEEP:-}" != 1 ]; then
    trap discard EXIT
fi
unshare --mount --pid --fork --kill-child --mount-proc "$0" "$target" in-namespace
