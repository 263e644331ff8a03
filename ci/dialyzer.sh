#!/bin/bash
# Dialyzer over the BEAM modules. What it knows of OTP and Elixir is computed once, into target/.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

elixir_ebin=$(elixir -e 'IO.puts(:code.lib_dir(:elixir))')
ERL_LIBS=$(dirname "$elixir_ebin")
export ERL_LIBS
known=target/dialyzer/$(elixir -e 'IO.puts("otp#{System.otp_release()}-elixir#{System.version()}-drivers-inets-ssl")').plt
if [ ! -e "$known" ]; then
    mkdir -p "$(dirname "$known")"
    echo "dialyzer: learning OTP and Elixir, some minutes, once"
    # Exit code 2 only says that these applications call others that are not looked at.
    dialyzer --quiet --build_plt --output_plt "$known" \
        --apps erts kernel stdlib crypto inets public_key ssl compiler elixir logger p1_sqlite3 p1_pgsql >/dev/null || [ $? = 2 ]
fi

(cd native_elixir && mix compile)
dialyzer --no_check_plt --plt "$known" -Wunknown \
    -r native_elixir/_build/dev/lib/elixir_scope_foundation/ebin
