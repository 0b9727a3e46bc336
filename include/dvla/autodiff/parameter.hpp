// Parameters: the tensors a model learns, and its running statistics. A parameter owns no elements: `parameters(model)`
// (nn/module.hpp) lays all of a model's out in one buffer and binds each to its place.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include <dvla/autodiff/variable.hpp>

namespace dvla::inline DVLA_ABI {

/// How a tensor stands in published checkpoints: extents in file order and, for each, the step in the model's memory.
struct archive_layout {
  std::size_t rank = 0;
  std::array<std::size_t, 4> extents{};
  std::array<std::size_t, 4> strides{};
};

/// As it is in memory: extents and row-major order.
struct archive_as_is {
  template <class S>
  [[nodiscard]] static archive_layout layout(S const& s) {
    static_assert(S::rank <= 4);
    archive_layout out{S::rank, {}, {}};
    std::size_t step = 1;
    for (std::size_t i = S::rank; i-- > 0; step *= s[i]) {
      out.extents[i] = s[i];
      out.strides[i] = step;
    }
    return out;
  }
};

/// A convolution's weight, (O, kh, kw, I) in memory, (O, I, kh, kw) in files.
struct archive_convolution {
  template <class S>
  [[nodiscard]] static archive_layout layout(S const& s) {
    return {4, {s[0], s[3], s[1], s[2]}, {s[1] * s[2] * s[3], 1, s[2] * s[3], s[3]}};
  }
};

/// A linear map stored as a 1x1 convolution: (O, I) in memory, (O, I, 1, 1) in files.
struct archive_pointwise {
  template <class S>
  [[nodiscard]] static archive_layout layout(S const& s) {
    return {4, {s[0], s[1], 1, 1}, {s[1], 1, 1, 1}};
  }
};

/// A map over an image of tokens: (H * W, C) in memory, (1, C, H, W) in files.
template <std::size_t Height, std::size_t Width>
struct archive_map {
  template <class S>
  [[nodiscard]] static archive_layout layout(S const& s) {
    return {4, {1, s[1], Height, Width}, {0, 1, Width * s[1], s[1]}};
  }
};

/// What a tensor of a model is: learned, or a statistic that the forward pass updates.
enum class role { weight, statistic };

/// A reference to a parameter: what operations keep.
template <class T, class S>
class parameter_reference {
 public:
  using value_type = T;
  using shape_type = S;
  using layout_type = contiguous;

  parameter_reference(detail::cell<T>* c, S const& s) : cell_(c), extents_(s) {
    expect(c->value != nullptr, "a parameter of shape ", s,
           " has no memory yet; construct parameters(model) and keep it alive as long as the model is used");
  }

  [[nodiscard]] S const& shape() const { return extents_; }
  [[nodiscard]] std::size_t size() const { return extents_.size(); }
  [[nodiscard]] T* data_pointer() const { return cell_->value; }
  /// The elements rounded to bfloat16, on a device that multiplies so.
  [[nodiscard]] bfloat16 const* rounded() const {
    expect(cell_->rounded != nullptr, "a parameter of shape ", extents_, " meets bfloat16 activations but has no rounded copy; ",
           "construct parameters(model, device) with the device that computes in bfloat16");
    return cell_->rounded;
  }
  [[nodiscard]] std::ptrdiff_t stride(std::size_t axis) const { return view<T const, S>(cell_->value, extents_).stride(axis); }
  [[nodiscard]] bool wants_gradient() const { return cell_->wants_gradient; }
  [[nodiscard]] gradient_target<T> add_gradient() const { return detail::add_gradient(*cell_); }
  [[nodiscard]] parameter_reference gradient_only() const { return *this; }
  [[nodiscard]] detail::cell<T>* cell() const { return cell_; }

 private:
  detail::cell<T>* cell_;
  S extents_;
};

namespace detail {

/// Replaces the elements of a parameter, and their rounded copy where there is one. Not a template over shapes: one function
/// serves all parameters.
template <class T>
void write_value(cell<T>& c, std::span<T const> host) {
  expect(host.size() == c.count, "a parameter of ", c.count, " elements was given ", host.size());
  c.copy_bytes(c.value, host.data(), host.size_bytes());
  if (c.rounded == nullptr) return;
  std::vector<bfloat16> const rounded(host.begin(), host.end());
  c.copy_bytes(c.rounded, rounded.data(), rounded.size() * sizeof(bfloat16));
}

}  // namespace detail

/// A tensor of a model. Moving a model moves its parameters; their elements stay where they are.
template <class S, class T = float, class Archive = archive_as_is, role Role = role::weight>
class parameter {
 public:
  using value_type = T;
  using shape_type = S;
  static constexpr bool is_parameter = true;
  static constexpr role kind = Role;

  parameter()
    requires(S::dynamic_rank == 0)
      : parameter(S{}) {}
  /// A parameter whose extents are known at run time only.
  explicit parameter(S const& s) : extents_(s), cell_(std::make_unique<detail::cell<T>>()) { cell_->count = s.size(); }

  [[nodiscard]] S const& shape() const { return extents_; }
  [[nodiscard]] std::size_t size() const { return extents_.size(); }
  [[nodiscard]] archive_layout published_layout() const { return Archive::layout(extents_); }
  [[nodiscard]] parameter_reference<T, S> reference() const { return {cell_.get(), extents_}; }
  [[nodiscard]] T* data() const { return cell_->value; }
  [[nodiscard]] T* gradient() const { return cell_->gradient; }

  /// Whether the backward pass computes this parameter's gradient (a weight's default, once bound).
  void trainable(bool on) { cell_->wants_gradient = on && Role == role::weight; }
  [[nodiscard]] bool trainable() const { return cell_->wants_gradient; }

  /// The elements in host memory, wherever they lie.
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> host(size());
    cell_->copy_bytes(host.data(), cell_->value, size() * sizeof(T));
    return host;
  }
  /// Replaces the elements, and their rounded copy where there is one.
  void write(std::span<T const> host) {
    detail::write_value(*cell_, host);
  }

  /// Gives the parameter its place on a device; gradients are added up at `gradient` (null for a statistic). `rounded` is its
  /// copy as bfloat16 where the device computes so.
  template <class Device>
  void bind(Device const&, T* value, T* gradient, bfloat16* rounded = nullptr) {
    cell_->copy_bytes = Device::copy_bytes;
    cell_->value = value;
    cell_->gradient = gradient;
    cell_->rounded = rounded;
    cell_->has_gradient = true;
    cell_->wants_gradient = gradient != nullptr;
    cell_->side = {};
  }

 private:
  S extents_;
  std::unique_ptr<detail::cell<T>> cell_;
};

/// A tensor that the forward pass updates, such as a running mean: saved with the model, not learned.
template <class S, class T = float>
using statistic = parameter<S, T, archive_as_is, role::statistic>;

namespace detail {

template <class S, class T, class A, role R>
struct source_of<parameter<S, T, A, R>> {
  static constexpr bool exists = true;
  static leaf<parameter_reference<T, S>> make(parameter<S, T, A, R> const& p) { return {p.reference()}; }
};

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
