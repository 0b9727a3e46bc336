// The inputs and parameters of golden files, made from names (tests/golden/README.md).
#pragma once

#include <cmath>
#include <string>
#include <string_view>

#include <dvla/nn/module.hpp>

#include "golden_file.hpp"

namespace parity {

/// Calls f(position in the file's order, offset in memory) for every element of a parameter.
template <class F>
void for_each_published(dvla::archive_layout const& layout, F&& f) {
  std::array<std::size_t, 4> extents{1, 1, 1, 1}, strides{};
  for (std::size_t i = 0; i < layout.rank; ++i) {
    extents[4 - layout.rank + i] = layout.extents[i];
    strides[4 - layout.rank + i] = layout.strides[i];
  }
  std::size_t position = 0;
  for (std::size_t a = 0; a < extents[0]; ++a)
    for (std::size_t b = 0; b < extents[1]; ++b)
      for (std::size_t c = 0; c < extents[2]; ++c)
        for (std::size_t d = 0; d < extents[3]; ++d)
          f(position++, a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3]);
}

/// The value of a parameter by its name: offset and scale of s.
[[nodiscard]] inline std::pair<double, double> value_rule(std::string_view name, dvla::archive_layout const& layout) {
  auto const ends = [&](std::string_view tail) { return name.ends_with(tail); };
  if (ends(".bn.weight")) return {1, 0.2};
  if (ends(".bn.bias") || ends(".bn.running_mean")) return {0, 0.1};
  if (ends(".bn.running_var")) return {1, 0.5};
  if (ends("pos_embed1") || ends("pos_embed2") || ends("pos_embed3")) return {0, 0.02};
  if (layout.rank < 2) return {0, 0.1};
  std::size_t inputs = 1;
  for (std::size_t i = 1; i < layout.rank; ++i) inputs *= layout.extents[i];
  double const scale = std::sqrt(3.0 / static_cast<double>(inputs));
  return {0, ends("mlp.conv3.weight") || ends("attn.proj.weight") ? 0.25 * scale : scale};
}

/// Sets all parameters of a model by their names, with a prefix.
template <class T, class Device>
void fill_by_name(dvla::parameters<T, Device>& weights, golden_file const& golden, std::string const& prefix = "") {
  for (auto const& e : weights.entries()) {
    auto const sequence = golden.sequence(prefix + e.name);
    auto const rule = value_rule(e.name, e.layout);
    std::vector<T> data(e.count);
    for_each_published(e.layout,
                       [&](std::size_t i, std::size_t at) { data[at] = static_cast<T>(rule.first + rule.second * sequence.s(i)); });
    weights.write(e, data);
  }
  weights.weights_changed();
}

/// L2 norm of a tensor and its dot product with signed("proj:" + name), as golden files store gradients and states.
template <class T>
[[nodiscard]] std::vector<double> norm_and_projection(T const* data, dvla::archive_layout const& layout,
                                                      named_sequence const& direction) {
  double squares = 0, dot = 0;
  for_each_published(layout, [&](std::size_t i, std::size_t at) {
    squares += static_cast<double>(data[at]) * static_cast<double>(data[at]);
    dot += static_cast<double>(data[at]) * direction.s(i);
  });
  return {std::sqrt(squares), dot};
}

/// Images scale * signed(name) of (count, 3, side, side), as channels-last.
template <class T, std::size_t Side>
[[nodiscard]] auto images_by_name(golden_file const& golden, std::string const& name, std::size_t count, double scale) {
  dvla::tensor<T, dvla::shape<dvla::dyn, Side, Side, 3>> out(count);
  auto const sequence = golden.sequence(name);
  std::size_t i = 0;
  for (std::size_t b = 0; b < count; ++b)
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t y = 0; y < Side; ++y)
        for (std::size_t x = 0; x < Side; ++x) out(b, y, x, c) = static_cast<T>(scale * sequence.s(i++));
  return out;
}

/// Rows of signed(name), scaled to unit length.
template <class T>
[[nodiscard]] auto unit_rows_by_name(golden_file const& golden, std::string const& name, std::size_t rows, std::size_t width) {
  dvla::tensor<T, dvla::shape<dvla::dyn, dvla::dyn>> out(rows, width);
  auto const sequence = golden.sequence(name);
  for (std::size_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) squares += sequence.s(r * width + i) * sequence.s(r * width + i);
    for (std::size_t i = 0; i < width; ++i) out(r, i) = static_cast<T>(sequence.s(r * width + i) / std::sqrt(squares));
  }
  return out;
}

}  // namespace parity
