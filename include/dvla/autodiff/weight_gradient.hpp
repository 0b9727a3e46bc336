// Gradients of weights. Nobody reads them before the end of the backward pass, so on a device that can work beside its queue they
// are computed there, while the queue goes on with the gradients of activations.
#pragma once

#include <dvla/autodiff/parameter.hpp>
#include <dvla/autodiff/variable.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

template <class Device>
concept works_beside = requires(Device const& device) { device.run_beside([](Device const&) {}); };

template <class Source>
inline constexpr bool is_weight = false;
template <class T, class S>
inline constexpr bool is_weight<parameter_reference<T, S>> = true;

/// Has work(device, target) add to the weight's gradient from the gradient of `result` and what else it reads, if the weight wants
/// one. `kept` lives until the work has ended. The result's cell is to be among it unless its gradient's memory is handed on to
/// another cell, which then waits for the work before it touches the memory.
template <class Context, class W, class T, class Work, class... Kept>
void add_weight_gradient(Context& context, W const& weight, cell<T>& result, Work const& work, Kept const&... kept) {
  if (!weight.wants_gradient()) return;
  using Device = typename Context::device_type;
  if constexpr (is_weight<W> && works_beside<Device>) {
    auto& side = weight.cell()->side;
    if (side.await != Device::await_beside) side.end();  // a branch: works of this kind are in order
    auto const target = add_gradient_in_order(*weight.cell());
    std::size_t const mark = context.device().run_beside([&](Device const& beside) { work(beside, target); });
    if (mark == 0) return;  // in a branch: not beside it
    side = result.side = {context.device().queue, Device::await_beside, mark};
    context.keep_beside(mark, kept...);
  } else {
    work(context.device(), weight.add_gradient());
  }
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
