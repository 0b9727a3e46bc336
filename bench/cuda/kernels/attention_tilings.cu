// attention_tilings_cuda: median times of attention by every entry of the tables in attention_tilings.cuh, as replayed graphs over
// inputs that stay in cache, in microseconds: what the first entries are chosen by.
#include <cstdio>
#include <utility>

#include <dvla/core/philox.hpp>
#include <dvla/kernels/cuda/attention.cuh>
#include <dvla/kernels/cuda/attention_backward.cuh>

#include "../timing.hpp"

namespace {

using namespace dvla;
using namespace dvla::kernels;
using namespace dvla::kernels::attention_cuda;

/// Device memory of numbers between -1 and 1.
template <class T>
class numbers {
 public:
  explicit numbers(std::size_t size) : data_(static_cast<T*>(cuda_memory::allocate(size * sizeof(T)))) {
    std::vector<T> host(size);
    random_stream random(size, draw::test, 0, 0);
    for (T& x : host) x = static_cast<T>(static_cast<float>(random.next()) * 0x1p-31f - 1.0f);
    cuda_memory::copy_bytes(data_, host.data(), size * sizeof(T));
  }
  numbers(numbers const&) = delete;
  numbers& operator=(numbers const&) = delete;
  ~numbers() { cuda_memory::deallocate(data_); }
  [[nodiscard]] T* data() const { return data_; }

 private:
  T* data_;
};

/// q, k, v and their gradients as one packed projection of self-attention, or as tensors of their own.
template <class T>
struct operands {
  attention_shape s;
  bool packed;
  std::size_t width = s.heads * s.head_dim, q_size = s.batch * s.queries * width, k_size = s.batch * s.keys * width;
  numbers<T> q{packed ? 3 * q_size : q_size}, k{packed ? 8 : k_size}, v{packed ? 8 : k_size}, o{q_size}, d_o{q_size};
  numbers<T> dq{packed ? 3 * q_size : q_size}, dk{packed ? 8 : k_size}, dv{packed ? 8 : k_size};
  numbers<float> lse{s.batch * s.heads * s.queries};

  [[nodiscard]] attention_operand<T> part(numbers<T> const& all, numbers<T> const& own, std::size_t number,
                                          std::size_t tokens) const {
    std::size_t const token = packed ? 3 * width : width;
    return {packed ? all.data() + number * width : own.data(), {tokens * token, s.head_dim, token}};
  }
  [[nodiscard]] static attention_operand<T const> constant(attention_operand<T> const& x) { return {x.data, x.strides}; }
  [[nodiscard]] attention_operand<T> result(numbers<T> const& x) const {
    return {x.data(), {s.queries * width, s.head_dim, width}};
  }

  template <std::size_t Choice, precision P>
  void forward(basic_cuda<P> const& device) const {
    attention_forward<Choice>(device, s, 0.125f, constant(part(q, q, 0, s.queries)), constant(part(q, k, 1, s.keys)),
                              constant(part(q, v, 2, s.keys)), result(o), lse.data());
  }
  template <std::size_t Choice, precision P>
  void backward(basic_cuda<P> const& device) const {
    attention_backward<Choice>(device, s, 0.125f, constant(part(q, q, 0, s.queries)), constant(part(q, k, 1, s.keys)),
                               constant(part(q, v, 2, s.keys)), constant(result(o)), static_cast<float const*>(lse.data()),
                               constant(result(d_o)), part(dq, dq, 0, s.queries), part(dq, dk, 1, s.keys), part(dq, dv, 2, s.keys),
                               false);
  }
};

template <precision P, class T, int D, std::size_t Choice>
void time_choice(operands<T> const& x) {
  constexpr std::size_t forwards = std::tuple_size_v<typename forward_tilings<T, D>::type>,
                        backwards = std::tuple_size_v<typename whole_head_tilings<T, D>::type>;
  basic_cuda<P> const device;
  if constexpr (Choice < forwards) {
    using tiling = chosen<forward_tilings<T, D>, Choice>;
    double const f = timing::median_ms(
        device, [&] { x.template forward<Choice>(device); }, 20);
    std::printf("  forward  %zu {%d, %d, %u, %u}: %7.1f us\n", Choice, tiling::tiles, tiling::step, tiling::warps, tiling::blocks,
                1e3 * f);
  }
  if constexpr (Choice < backwards) {
    using tiling = chosen<whole_head_tilings<T, D>, Choice>;
    x.template forward<0>(device);
    double const b = timing::median_ms(
        device, [&] { x.template backward<Choice>(device); }, 20);
    if constexpr (std::is_same_v<tiling, in_pieces>)
      std::printf("  backward %zu in pieces: %7.1f us\n", Choice, 1e3 * b);
    else
      std::printf("  backward %zu {%d, %u, %d}: %7.1f us\n", Choice, tiling::tiles, tiling::warps, tiling::keys_in_registers,
                  1e3 * b);
  }
}

template <precision P, class T>
void time_all(char const* name, attention_shape const& s, bool packed) {
  operands<T> const x{s, packed};
  basic_cuda<P> const device;
  std::printf("%s %zu x %zu heads, %zu x %zu x %zu\n", name, s.batch, s.heads, s.queries, s.keys, s.head_dim);
  (void)with_padded_dim(s.head_dim, [&]<int D>(std::integral_constant<int, D>) {
    [&]<std::size_t... I>(std::index_sequence<I...>) { (time_choice<P, T, D, I>(x), ...); }
    (std::make_index_sequence<6>{});
    return true;
  });
  auto const both = [&] { x.template forward<0>(device), x.template backward<0>(device); };
  std::printf("  both by the first: %7.1f us\n", 1e3 * timing::median_ms(device, both, 20));
}

template <precision P, class T>
void every_shape(char const* name) {
  for (std::size_t const batch : {80u, 512u}) {
    time_all<P, T>(name, {batch, 3, 196, 196, 64}, true);
    time_all<P, T>(name, {batch, 3, 49, 49, 128}, true);
  }
  time_all<P, T>(name, {80, 8, 45, 196, 24}, false);
  time_all<P, T>(name, {80, 8, 45, 49, 48}, false);
}

}  // namespace

int main() {
  try {
    every_shape<precision::bf16, bfloat16>("bf16");
    every_shape<precision::tf32, float>("tf32");
  } catch (dvla::error const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
