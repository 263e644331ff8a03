# shellcheck shell=bash disable=SC2034
# Sourced by install.sh and uninstall.sh, so that the one removes what the other puts.
prefix=${PREFIX:-/usr/local}
libdir=${LIBDIR:-$prefix/lib}
includedir=${INCLUDEDIR:-$prefix/include}
destdir=${DESTDIR:-}
for path in "$prefix" "$libdir" "$includedir"; do
    case $path in
    /*) ;;
    *) echo "PREFIX, LIBDIR and INCLUDEDIR are absolute paths, not '$path'" >&2; exit 2 ;;
    esac
done

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
case $version in
0.*) abi=${version%.*} ;;
*) abi=${version%%.*} ;;
esac
link_name=libelixirscope.so
abi_name=$link_name.$abi
real_name=$link_name.$version
