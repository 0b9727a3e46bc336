// Which rows a batch normalisation takes its statistics over.
#pragma once

#include <cstddef>

namespace dvla::inline DVLA_ABI {
namespace kernels {

/// All rows of a batch together or, where `apart` is not 0, in two parts: the first `apart` rows and the rest, normalised as two
/// batches one after the other.
struct batch_rows {
  std::size_t all, apart;

  constexpr batch_rows(std::size_t rows, std::size_t first_rows = 0) : all(rows), apart(first_rows) {}

  [[nodiscard]] constexpr std::size_t parts() const { return apart == 0 ? 1 : 2; }
  [[nodiscard]] constexpr std::size_t first(std::size_t part) const { return part == 0 ? 0 : apart; }
  [[nodiscard]] constexpr std::size_t of(std::size_t part) const { return part == 1 ? all - apart : apart == 0 ? all : apart; }
};

}  // namespace kernels
using kernels::batch_rows;
}  // namespace dvla::inline DVLA_ABI
