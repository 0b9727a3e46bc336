// What completes a product before it leaves the chip. An epilogue is a trivially copyable functor with
//   finish<N>(row, column, sums)   on the device: takes N neighbouring sums of a row and stores what is wanted of them. It is called
//                                  for every element of the product once, with N = 1 or N = packet_of<T> for operands of T; in a
//                                  batch, row is batch_index * m + row
//   takes_packets<N>()             on the host: whether finish<N> may be called, at any row and any multiple of N as column, that is,
//                                  whether the rows it reads and stores are aligned to accesses of N elements
//   prefetch(row, column)          on the device, if there is one: asks for what finish reads there, early
//   load<N>(row, column)           on the device, if there is one: what finish reads there; finish then also takes it as its last
//                                  argument, so that a kernel has many such reads under way at once
// Rows of all matrices here are `ld` elements apart.
#pragma once

#include <cstddef>

#include <dvla/expr/operations.hpp>
#include <dvla/kernels/cuda/access.cuh>
#include <dvla/kernels/cuda/divisor.cuh>
#include <dvla/kernels/cuda/packet.cuh>
#include <dvla/kernels/cuda/tensor_core.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace detail {

/// Whether every row allows packets of N. Null rows, which are not used, do.
template <int N, class E>
[[nodiscard]] bool rows_allow_packets(E const* rows, std::size_t ld) {
  return rows == nullptr || allows_packets<N>(rows, rows + ld);
}

/// sums + bias[column ...], or just the sums if bias is null.
template <int N, class A>
__device__ DVLA_INLINE packet<A, N> with_bias(packet<A, N> const& sums, A const* bias, std::size_t column) {
  return bias == nullptr ? sums : sums + load_packet<A, N>(bias + column);
}

}  // namespace detail

/// c = sums + beta addend, where members of a batch lie `batch_stride` apart. A null addend is c itself; with beta 0 it is not read.
template <class C>
struct store_result {
  using A = arithmetic_t<C>;
  C* c;
  std::size_t ld;
  A beta = 0;
  std::size_t m = 0, batch_stride = 0;  // m: rows of a member; 0: all rows are ld apart
  C const* addend = nullptr;

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return detail::rows_allow_packets<N>(c, ld) && allows_packets<N>(c + batch_stride, addend);
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> sums) const {
    std::size_t const at = (m == 0 ? row * ld : row / m * batch_stride + row % m * ld) + column;
    if (beta != A(0)) sums = sums + packet<A, N>(beta) * load_packet<A, N>((addend == nullptr ? c : addend) + at);
    store_packet(c + at, sums);
  }
};

/// y = sums + bias. Bias (columns) may be null.
template <class Y>
struct store_biased {
  using A = arithmetic_t<Y>;
  Y* y;
  std::size_t ld;
  A const* bias = nullptr;

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return detail::rows_allow_packets<N>(y, ld) && allows_packets<N>(bias);
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const& sums) const {
    store_packet(y + row * ld + column, detail::with_bias(sums, bias, column));
  }
};

/// y = gelu(sums + bias), the exact one, of numbers that are not rounded to Y; Keeps: and z = sums + bias. Without Biased there is
/// no bias.
template <class Y, bool Keeps, bool Biased>
struct store_gelu {
  using A = arithmetic_t<Y>;
  Y* y;
  std::size_t ld;
  Y* z = nullptr;
  A const* bias = nullptr;

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return detail::rows_allow_packets<N>(y, ld) && detail::rows_allow_packets<N>(z, ld) && allows_packets<N>(bias);
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> sums) const {
    if constexpr (Biased) sums = sums + load_packet<A, N>(bias + column);
    if constexpr (Keeps) store_packet(z + row * ld + column, sums);
    store_packet(y + row * ld + column, op::gelu::apply(sums));
  }
};

/// y = x + kept[row / rows_per_sample] (sums + bias): a branch of a residual network with stochastic depth (Huang et al., arXiv
/// 1603.09382), where kept is 0 or 1 / P(kept) for every sample. Bias and kept may be null; kept then is 1. For fewer than 2^31
/// rows. y may be x.
template <class Y>
struct store_residual {
  using A = arithmetic_t<Y>;
  Y* y;
  Y const* x;
  std::size_t ld;
  A const* bias = nullptr;
  A const* kept = nullptr;
  detail::divisor rows_per_sample{};

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return detail::rows_allow_packets<N>(y, ld) && detail::rows_allow_packets<N>(x, ld) && allows_packets<N>(bias);
  }
  __device__ void prefetch(std::size_t row, std::size_t column) const { tensor_core::prefetch(x + row * ld + column); }
  template <int N>
  [[nodiscard]] __device__ raw_packet<Y, N> load(std::size_t row, std::size_t column) const {
    return load_raw<N>(x + row * ld + column);
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const& sums, raw_packet<Y, N> const& base) const {
    A const factor = kept == nullptr ? A(1) : kept[rows_per_sample.quotient(static_cast<std::uint32_t>(row))];
    auto const branch = packet<A, N>(factor) * detail::with_bias(sums, bias, column);
    store_packet(y + row * ld + column, base.template as<A>() + branch);
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const& sums) const {
    finish<N>(row, column, sums, load<N>(row, column));
  }
};

/// d = sums gelu'(z): the gradient of a pre-activation from the product that gives that of its gelu. d may be z.
template <class Y>
struct store_gelu_gradient {
  using A = arithmetic_t<Y>;
  Y* d;
  Y const* z;
  std::size_t ld;

  template <int N>
  [[nodiscard]] bool takes_packets() const {
    return detail::rows_allow_packets<N>(d, ld) && detail::rows_allow_packets<N>(z, ld);
  }
  __device__ void prefetch(std::size_t row, std::size_t column) const { tensor_core::prefetch(z + row * ld + column); }
  template <int N>
  [[nodiscard]] __device__ raw_packet<Y, N> load(std::size_t row, std::size_t column) const {
    return load_raw<N>(z + row * ld + column);
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const& sums, raw_packet<Y, N> const& at) const {
    store_packet(d + row * ld + column, op::gelu::derivative<0>(sums, sums, at.template as<A>()));
  }
  template <int N>
  __device__ void finish(std::size_t row, std::size_t column, packet<A, N> const& sums) const {
    finish<N>(row, column, sums, load<N>(row, column));
  }
};

}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
