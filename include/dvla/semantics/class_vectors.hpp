// The meanings of a data set's classes as vectors: what few-shot models take; semantics/bank.hpp makes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <dvla/core/error.hpp>
#include <dvla/core/tensor.hpp>

namespace dvla::inline DVLA_ABI {

/// For each class, in the data set's order, `phrases` local vectors and a global one, all of `width` elements.
struct class_vectors {
  std::size_t phrases = 0, width = 0;
  std::vector<float> local{};   ///< classes x phrases x width
  std::vector<float> global{};  ///< classes x width

  [[nodiscard]] std::size_t classes() const { return width == 0 ? 0 : global.size() / width; }
};

/// The vectors of an episode's classes in its order, as dvla_rl takes them.
struct episode_vectors {
  tensor<float, shape<dyn, dyn>> local, global;  ///< (way * phrases, width) and (way, width)
};

/// Throws for a class that the vectors do not have.
[[nodiscard]] inline episode_vectors select_classes(class_vectors const& all, std::span<std::uint32_t const> classes) {
  episode_vectors out{tensor<float, shape<dyn, dyn>>(classes.size() * all.phrases, all.width),
                      tensor<float, shape<dyn, dyn>>(classes.size(), all.width)};
  std::size_t const block = all.phrases * all.width;
  for (std::size_t i = 0; i < classes.size(); ++i) {
    std::size_t const c = classes[i];
    expect(c < all.classes(), "semantics: class ", c, " of an episode has no vectors, there are ", all.classes(),
           "; make them for the data set's own classes");
    for (std::size_t k = 0; k < block; ++k) out.local.data()[i * block + k] = all.local[c * block + k];
    for (std::size_t k = 0; k < all.width; ++k) out.global.data()[i * all.width + k] = all.global[c * all.width + k];
  }
  return out;
}

}  // namespace dvla::inline DVLA_ABI
