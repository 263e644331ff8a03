#!/bin/bash
# ci/snippet.sh LANGUAGE FILE: prints FILE's fenced code blocks of that language, so that each language's check can
# run what the documentation shows. No such block is a failure: a check of nothing would always pass.
set -euo pipefail

language=${1:?usage: ci/snippet.sh LANGUAGE FILE}
file=${2:?usage: ci/snippet.sh LANGUAGE FILE}
awk -v open="\`\`\`$language" '
    $0 == "```" { inside = 0 }
    inside { print; lines++ }
    $0 == open { inside = 1 }
    END { exit lines == 0 }' "$file" || {
    echo "snippet: $file has no block \`\`\`$language" >&2
    exit 1
}
