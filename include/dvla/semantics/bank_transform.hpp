// What is done to a bank's vectors before a model sees them.
#pragma once

#include <algorithm>
#include <cmath>

#include <dvla/semantics/class_vectors.hpp>

namespace dvla::inline DVLA_ABI {

/// Published vectors have neither unit length nor mean zero.
struct bank_transform {
  bool centre = true;  ///< subtracts the mean over the reference classes, local and global vectors each their own
  bool unit = true;    ///< then scales every vector to unit length
};

/// The means over classes that vectors are centred by; empty for none.
struct bank_centre {
  std::vector<float> local{}, global{};
};

/// Means of the reference classes' vectors, summed in order.
[[nodiscard]] inline bank_centre centre_of(class_vectors const& reference) {
  auto const mean = [&](std::vector<float> const& rows) {
    std::vector<double> sum(reference.width);
    for (std::size_t i = 0; i < rows.size(); ++i) sum[i % reference.width] += static_cast<double>(rows[i]);
    std::vector<float> out;
    for (double const s : sum)
      out.push_back(static_cast<float>(s / (static_cast<double>(rows.size()) / static_cast<double>(sum.size()))));
    return out;
  };
  return {mean(reference.local), mean(reference.global)};
}

/// Subtracts the centre and scales to unit length, as the transform says.
inline void transform(class_vectors& vectors, bank_transform how, bank_centre const& centre) {
  auto const each = [&](std::vector<float>& rows, std::vector<float> const& mean) {
    expect(!how.centre || mean.size() == vectors.width, "semantics: the vectors have ", vectors.width,
           " elements, the centre of those that the model was trained with ", mean.size(), "; give a bank of the same encoder");
    for (std::size_t begin = 0; begin < rows.size(); begin += vectors.width) {
      double squares = 0;
      for (std::size_t i = 0; i < vectors.width; ++i) {
        float& x = rows[begin + i];
        if (how.centre) x -= mean[i];
        squares += static_cast<double>(x) * static_cast<double>(x);
      }
      double const scale = how.unit ? 1 / std::max(std::sqrt(squares), 1e-12) : 1;
      for (std::size_t i = 0; i < vectors.width; ++i) rows[begin + i] = static_cast<float>(rows[begin + i] * scale);
    }
  };
  each(vectors.local, centre.local);
  each(vectors.global, centre.global);
}

}  // namespace dvla::inline DVLA_ABI
