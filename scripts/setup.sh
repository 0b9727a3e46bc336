# For the other scripts to source: what a fresh Debian or Ubuntu lacks, and how many compilers may run at once.

# install_missing PACKAGE...: installs with apt what is not there. Elsewhere than on Debian, CMake names what is missing.
install_missing() {
  command -v dpkg-query >/dev/null || return 0
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return 0; fi
  echo "installing: ${missing[*]}"
  local as_root=()
  if ((EUID != 0)); then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What the library, its tool and its tests are built with.
build_packages=(g++ cmake ninja-build ccache pkg-config libxsimd-dev doctest-dev nlohmann-json3-dev libcli11-dev
                libturbojpeg0-dev libpng-dev zlib1g-dev libcurl4-openssl-dev openssl)

# As many jobs as there are cores, but 2 GB of memory for each.
count_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ { print int($2 / 2000000) }' /proc/meminfo)
  ((memory < 1)) && memory=1
  echo $((cores < memory ? cores : memory))
}
