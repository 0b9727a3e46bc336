// Which of several processes this is, as launchers tell it: by variables of the environment.
#pragma once

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// One process of a run, and where its processes meet.
struct launch {
  std::size_t rank = 0, size = 1;
  std::size_t local_rank = 0;  ///< among the processes on this machine: the card to take
  std::string address = "127.0.0.1";
  std::uint16_t port = 29500;

  [[nodiscard]] bool alone() const { return size == 1; }
};

namespace detail {

/// The number that the variable holds, or nothing if it is not set or empty. Throws for anything but a whole number up to `most`.
template <class Lookup>
[[nodiscard]] std::optional<std::size_t> number_of(Lookup const& variable, char const* name, std::size_t most) {
  char const* const text = variable(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  std::string_view const digits(text);
  std::size_t value = 0;
  auto const [end, status] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  expect(status == std::errc{} && end == digits.data() + digits.size() && value <= most, name, " is \"", digits,
         "\"; expected a whole number up to ", most);
  return value;
}

/// Rank and size from a pair of variables that are both set or both not; whether they are.
template <class Lookup>
[[nodiscard]] bool read_rank(Lookup const& variable, char const* rank_name, char const* size_name, launch& out) {
  constexpr std::size_t most = 65535;
  auto const rank = number_of(variable, rank_name, most), size = number_of(variable, size_name, most);
  if (!rank && !size) return false;
  expect(rank && size, rank ? rank_name : size_name, " is set but ", rank ? size_name : rank_name,
         " is not; set both, or neither for a single process");
  expect(*size > 0 && *rank < *size, rank_name, " is ", *rank, " and ", size_name, " ", *size, "; ranks count from 0 to ", size_name,
         " - 1");
  out.rank = *rank;
  out.size = *size;
  return true;
}

}  // namespace detail

/// What the variables say; `variable` gives the text of one by its name, or null. RANK, WORLD_SIZE and LOCAL_RANK count, else
/// Open MPI's OMPI_COMM_WORLD_RANK, _SIZE and _LOCAL_RANK; without a local rank the rank is taken, as on a single machine. Rank 0
/// is met at MASTER_ADDR (127.0.0.1) and MASTER_PORT (29500). Without any of them the process is alone. Throws for variables that
/// do not fit together.
template <class Lookup>
[[nodiscard]] launch read_launch(Lookup const& variable) {
  launch out;
  if (!detail::read_rank(variable, "RANK", "WORLD_SIZE", out))
    (void)detail::read_rank(variable, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", out);
  out.local_rank = out.rank;
  for (char const* const name : {"OMPI_COMM_WORLD_LOCAL_RANK", "LOCAL_RANK"})
    if (auto const local = detail::number_of(variable, name, 65535)) out.local_rank = *local;
  if (out.alone()) return out;
  if (char const* const address = variable("MASTER_ADDR"); address != nullptr && *address != '\0') out.address = address;
  if (auto const port = detail::number_of(variable, "MASTER_PORT", 65535)) {
    expect(*port > 0, "MASTER_PORT is 0; give a free port of ", out.address);
    out.port = static_cast<std::uint16_t>(*port);
  }
  return out;
}

/// read_launch from this process's environment.
[[nodiscard]] inline launch launch_from_environment() {
  return read_launch([](char const* name) -> char const* { return std::getenv(name); });
}

}  // namespace dvla::inline DVLA_ABI
