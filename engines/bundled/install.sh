#!/usr/bin/env bash
# Builds the engine of this machine from the graph beside this file, and segments a street frame with it. No torch.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: ./install.sh [options]

  --wheels DIR        install from this folder of wheels, with no index
  --extras LIST       of the package (build,video); on an NVIDIA GPU build,video,tensorrt
  --python PYTHON     3.10 or newer (python3)
  --system-packages   see the system's packages, too: a Jetson's own TensorRT
  --newest            the newest versions that fit, not those in constraints.txt
  --require-signed PUBKEY    go on only if the owner of this key signed the bundle; anything made here before
                      is made again (openssl 3 is needed)
  --backend NAME      of the engine (auto: TensorRT where it can be used, else OpenVINO)

Makes venv, engines and masks beside itself. The engine's path is the last line. Again: it goes on where it was.
TEXT
}

fail() {
  echo "error: $1" >&2
  exit "${2:-1}"
}

cd_from=$PWD
python=python3 extras=build,video wheels= system= public= backend=auto constraints=@CONSTRAINTS@
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --system-packages) system=--system-site-packages; shift; continue ;;
    --newest) constraints=; shift; continue ;;
    --wheels | --extras | --python | --backend | --require-signed) [ $# -gt 1 ] || fail "$1 needs a value; ./install.sh --help" 2 ;;
    *) fail "there is no option $1; ./install.sh --help" 2 ;;
  esac
  case "$1" in
    --wheels) wheels=$2 ;;
    --extras) extras=$2 ;;
    --python) python=$2 ;;
    --backend) backend=$2 ;;
    --require-signed) public=$2 ;;
  esac
  shift 2
done
if [ -n "$wheels" ]; then
  wheels=$(cd "$cd_from" && cd "$wheels" 2>/dev/null && pwd) || fail "--wheels names no folder"
fi

if [ -n "$public" ]; then
  public=$(cd "$cd_from" && realpath -e -- "$public" 2>/dev/null) || fail "--require-signed names no file"
fi

cd "$(dirname "${BASH_SOURCE[0]}")"
if [ -n "$public" ]; then
  command -v openssl >/dev/null || fail "--require-signed needs openssl 3, which is not there"
  [ -f SHA256SUMS.sig ] || fail "this bundle is not signed: there is no SHA256SUMS.sig in it"
  openssl pkeyutl -verify -pubin -inkey "$public" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
    fail "this bundle is not signed by $public, or was changed since, or openssl is older than 3"
  rm -rf venv engines masks # nobody signed what stands in them
fi
sha256sum --check --quiet SHA256SUMS >&2 || fail "this bundle is not whole; copy it again"
command -v "$python" >/dev/null || fail "there is no $python; name one: --python PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or newer is needed; name one: --python PYTHON"
[ -x venv/bin/pip ] || "$python" -m venv $system venv || fail "$python cannot make a venv; on Debian and Ubuntu: apt install python3-venv"
venv/bin/python -m pip install --quiet --disable-pip-version-check ${wheels:+--no-index --find-links "$wheels"} \
  ${constraints:+--constraint "$constraints"} "./@WHEEL@[$extras]" >&2 ||
  fail "pip could not install the package; its reason is above"
engine=$(venv/bin/python -m engines.build '@GRAPH@' --precision '@PRECISION@' --backend "$backend" --folder engines | tail -n 1)
frame=$(venv/bin/python -c 'from runtime.samples import STREET; print(STREET)')
venv/bin/python -m runtime.infer "$frame" --output masks --engine "$engine" --warmup 3 >&2
echo "$PWD/$engine"
