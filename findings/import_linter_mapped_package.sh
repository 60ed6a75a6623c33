#!/usr/bin/env bash
# import-linter judges a package with mapped folders by a part of it, and says that all contracts are kept.
#
# setuptools' `package-dir` lets folders stand at the top of a repository and still be subpackages: here `rules/` is
# `demo.rules`, as effgen's schedules/ are `effgen.schedules`. An editable install makes every module importable. One
# would guess that a tool which finds the package by importing it sees what Python sees, or fails where it does not.
#
# What happens (2026-11-29): in the editable install grimp finds the modules below the package's own folder only. The
# forbidden import stands in the mapped folder, and the contract is reported as KEPT, exit status 0. Of the same package
# as pip installs it, all modules are found and the contract is BROKEN, exit status 1.
#
# Why it matters to who compiles ConvNets: the folder of schedules is the one that loads the compiler. A rule that
# keeps the compiler out of the runtime has to be checked on the package as it is installed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet setuptools==80.9.0 grimp==3.20 import-linter==2.17

mkdir -p project/demo project/rules
cd project
cat > pyproject.toml <<'TOML'
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "demo"
version = "1"
[tool.setuptools]
packages = ["demo", "demo.rules"]
[tool.setuptools.package-dir]
"demo" = "demo"
"demo.rules" = "rules"
TOML
echo '"""The package."""' > demo/__init__.py
echo '"""Needs no compiler."""' > demo/runtime.py
echo '"""Subpackage at the top of the repository."""' > rules/__init__.py
echo 'import sqlite3' > rules/compiled.py
cat > ../contract.toml <<'TOML'
[tool.importlinter]
root_package = "demo"
include_external_packages = true
[[tool.importlinter.contracts]]
name = "nothing imports sqlite3"
type = "forbidden"
source_modules = ["demo"]
forbidden_modules = ["sqlite3"]
TOML

modules='import grimp; print(*sorted(grimp.build_graph("demo", cache_dir=None).modules))'
check() { # folder to stand in
    (cd "$1" && "$work/env/bin/python" -c 'import demo.rules.compiled' && "$work/env/bin/python" -c "$modules" &&
        { "$work/env/bin/lint-imports" --no-cache "$work/contract.toml" | grep -E 'sqlite3 (KEPT|BROKEN)'; echo "status ${PIPESTATUS[0]}"; })
}

"$work/env/bin/python" -m pip install --quiet --no-build-isolation --no-deps -e .
mkdir "$work/elsewhere"
echo "== editable"
editable=$(check "$work/elsewhere") || true
echo "$editable"
"$work/env/bin/python" -m pip uninstall --quiet --yes demo
"$work/env/bin/python" -m pip install --quiet --no-build-isolation --no-deps .
echo "== as installed"
installed=$(check "$work/elsewhere") || true
echo "$installed"
"$work/env/bin/python" -m pip list 2>/dev/null | grep -E '^(grimp|import-linter|setuptools) '
"$work/env/bin/python" --version

[[ $editable == $'demo demo.runtime\nnothing imports sqlite3 KEPT\n'* ]] &&
    [[ $installed == *'demo.rules.compiled'*'sqlite3 BROKEN'* ]] &&
    echo "as found: the editable install hides the mapped folder, and the broken contract with it"
