// What the classes of a data set mean, as meta-train and evaluate need it.
#pragma once

#include <string>
#include <vector>

#include <dvla/semantics/class_vectors.hpp>

namespace cli {

/// Vectors of the classes of some splits, and what they were made of.
struct class_meanings {
  std::vector<dvla::class_vectors> splits;  ///< in the order asked for
  std::string hash;                         ///< of the bank's content
};

/// Reads a bank (.safetensors with its .json, .pth; its name without an ending will do) or texts (.json, encoded by `encoder`) for the
/// classes of these splits of a data set. Throws one error that names every class of every split that is missing in it.
[[nodiscard]] class_meanings read_meanings(std::string const& name, std::string const& encoder, std::size_t phrases,
                                           std::string const& root, std::vector<std::string> const& splits);

}  // namespace cli
