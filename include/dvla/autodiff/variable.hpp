// Variables: what models compute with. A variable is a counted handle to elements in its context's arena.
#pragma once

#include <span>

#include <dvla/autodiff/tape.hpp>
#include <dvla/expr/expression.hpp>

namespace dvla::inline DVLA_ABI {

/// Where an operation puts a gradient: null if nobody wants it, otherwise overwritten or (accumulate) added to.
template <class T>
struct gradient_target {
  T* data = nullptr;
  bool accumulate = false;
  [[nodiscard]] explicit operator bool() const { return data != nullptr; }
};

namespace detail {

/// The gradient of a cell, allocated at the first contribution, for work that comes after all that is under way on it.
template <class T>
[[nodiscard]] gradient_target<T> add_gradient_in_order(cell<T>& c) {
  if (!c.wants_gradient) return {};
  if (c.gradient == nullptr) {
    expect(c.memory != nullptr, "a parameter that wants a gradient has no memory for one; bind it with parameters(model) first");
    c.gradient = static_cast<T*>(c.memory->allocate(c.count * sizeof(T)));
  }
  if (c.memory == nullptr && branch_at_work.queue != nullptr) c.side = branch_at_work;
  return {c.gradient, std::exchange(c.has_gradient, true)};
}

/// The same for the device's queue, which waits for what works on the gradient beside it.
template <class T>
[[nodiscard]] gradient_target<T> add_gradient(cell<T>& c) {
  c.side.end();
  return add_gradient_in_order(c);
}

}  // namespace detail

/// A handle that can receive a gradient but does not keep the value alive.
template <class T, class S>
class gradient_handle {
 public:
  gradient_handle() = default;
  gradient_handle(detail::cell<T>* c, S const& s) : cell_(c), extents_(s) {}
  [[nodiscard]] gradient_target<T> add_gradient() const { return detail::add_gradient(*cell_.get()); }
  [[nodiscard]] bool wants_gradient() const { return cell_->wants_gradient; }
  [[nodiscard]] S const& shape() const { return extents_; }
  [[nodiscard]] std::size_t size() const { return extents_.size(); }

 private:
  detail::cell_reference<T, false> cell_;
  S extents_{};
};

/// Elements of type T and shape S in a context (a tape or an inference context).
template <class T, class S, class Context>
class variable {
 public:
  using value_type = T;
  using shape_type = S;
  using layout_type = contiguous;
  using context_type = Context;
  static constexpr std::size_t rank = S::rank;

  variable(Context& owner, detail::cell<T>* c, S const& s) : context_(&owner), cell_(c), extents_(s) {}

  /// From a variable whose shape says less or more about the same extents; a static extent that differs throws.
  template <class S2>
    requires(!std::is_same_v<S2, S> && std::is_convertible_v<S2, S>)
  variable(variable<T, S2, Context> const& other)  // NOLINT: a compatible shape converts
      : context_(&other.context()), cell_(other.cell()), extents_(other.shape()) {}

  [[nodiscard]] Context& context() const { return *context_; }
  [[nodiscard]] S const& shape() const { return extents_; }
  [[nodiscard]] std::size_t size() const { return extents_.size(); }
  [[nodiscard]] T* data_pointer() const { return cell_->value; }
  [[nodiscard]] std::ptrdiff_t stride(std::size_t axis) const { return value().stride(axis); }

  /// The elements, as long as the variable lives.
  [[nodiscard]] view<T const, S, contiguous, typename Context::device_type> value() const { return {cell_->value, extents_}; }
  /// The elements in host memory; waits until they are computed.
  [[nodiscard]] std::vector<T> host() const {
    std::vector<T> out(size());
    context_->await_branches();
    download(context_->device(), size(), static_cast<T const*>(cell_->value), out.data());
    return out;
  }

  [[nodiscard]] bool wants_gradient() const { return cell_->wants_gradient; }
  [[nodiscard]] gradient_target<T> add_gradient() const { return detail::add_gradient(*cell_.get()); }
  [[nodiscard]] gradient_handle<T, S> gradient_only() const { return {cell_.get(), extents_}; }
  [[nodiscard]] detail::cell<T>* cell() const { return cell_.get(); }

  /// The gradient that backward() left; throws if none has arrived.
  [[nodiscard]] view<T const, S, contiguous, typename Context::device_type> gradient() const {
    expect(cell_->has_gradient, "a variable of shape ", extents_, " has no gradient; call backward() on a loss that depends on it");
    return {cell_->gradient, extents_};
  }

  /// Marks a constant as an input whose gradient is wanted, before it is used.
  variable const& watch() const {
    cell_->wants_gradient = true;
    return *this;
  }

 private:
  Context* context_;
  detail::cell_reference<T, true> cell_;
  S extents_;
};

namespace detail {

template <class T, class S, class C>
struct source_of<variable<T, S, C>> {
  static constexpr bool exists = true;
  static leaf<variable<T, S, C>> make(variable<T, S, C> const& v) { return {v}; }
};

template <class X>
inline constexpr bool is_variable = false;
template <class T, class S, class C>
inline constexpr bool is_variable<variable<T, S, C>> = true;

}  // namespace detail

/// A variable that reads the caller's memory; host memory is copied to the device of the context if that is another.
template <class Context, class T, class S, class L, class D>
[[nodiscard]] auto make_constant(Context& context, view<T, S, L, D> const& v) {
  static_assert(std::is_same_v<L, contiguous>, "a context reads contiguous memory; copy a strided view into a tensor first");
  using element = std::remove_const_t<T>;
  if constexpr (D::is_host && !Context::device_type::is_host) {
    variable<element, S, Context> out(context, context.template make_cell<element>(v.size()), v.extents);
    upload(context.device(), v.size(), static_cast<element const*>(v.data), out.data_pointer());
    return out;
  } else
    return variable<element, S, Context>(context, context.template make_cell<element>(v.size(), const_cast<element*>(v.data)), v.extents);
}

template <class Context, class T, class S, class D>
[[nodiscard]] auto make_constant(Context& context, tensor<T, S, D> const& t) {
  return make_constant(context, t.view_of());
}

/// A new variable with undefined elements.
template <class T, class S, class Context>
[[nodiscard]] variable<T, S, Context> make_variable(Context& context, S const& extents) {
  return {context, context.template make_cell<T>(extents.size()), extents};
}

/// The same elements and gradient in another shape. No copy.
template <class S2, class T, class S, class C>
[[nodiscard]] variable<T, S2, C> reshape(variable<T, S, C> const& x, S2 const& extents = {}) {
  expect(extents.size() == x.size(), "reshape: ", x.shape(), " has ", x.size(), " elements, ", extents, " would have ",
         extents.size());
  return {x.context(), x.cell(), extents};
}

/// The value without its history: no gradient flows through. No copy.
template <class T, class S, class C>
[[nodiscard]] variable<T, S, C> stop_gradient(variable<T, S, C> const& x) {
  auto* const c = x.context().template make_cell<T>(x.size(), x.data_pointer());
  c->shares = detail::cell_reference<T, true>(x.cell());
  return {x.context(), c, x.shape()};
}

/// A copy of host memory in the context's own.
template <class T, class Context>
[[nodiscard]] variable<T, shape<dyn>, Context> upload_copy(Context& context, std::span<T const> host) {
  auto out = make_variable<T>(context, shape<dyn>(host.size()));
  upload(context.device(), host.size(), host.data(), out.data_pointer());
  return out;
}

/// Whether an operation on these inputs is to be recorded.
template <class Context, class... Inputs>
[[nodiscard]] bool recorded(Context& context, Inputs const&... inputs) {
  if constexpr (Context::records) {
    return context.recording() && (inputs.wants_gradient() || ...);
  } else {
    return false;
  }
}

}  // namespace dvla::inline DVLA_ABI
