// Attention forward of rows of at most 64 bfloat16 by warpgroup products. A block has one head or two, whose rows the copy engine brings
// to its shared memory, and each of its warpgroups 64 queries of a head, which walk over the keys as those of attention.cuh do. One
// more warpgroup sends for the rows and has the few queries that are left (attention_rest.cuh).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <dvla/core/bfloat16.hpp>
#include <dvla/kernels/attention_shape.hpp>
#include <dvla/kernels/cuda/attention_launch.cuh>
#include <dvla/kernels/cuda/attention_rest.cuh>
#include <dvla/kernels/cuda/attention_tile.cuh>
#include <dvla/kernels/cuda/launch.cuh>
#include <dvla/kernels/cuda/shared_barrier.cuh>
#include <dvla/kernels/cuda/tensor_map.cuh>
#include <dvla/kernels/cuda/wgmma.cuh>

namespace dvla::inline DVLA_ABI {
namespace kernels {
namespace attention_cuda {

// Registers of a thread: all have 128 at first, then one warpgroup leaves 16 to each of the three others.
inline constexpr int group_registers = 144, rest_registers = 80;

/// What the kernel is called with.
struct warpgroup_arguments {
  CUtensorMap tiles[3], chunks[3];  // of q, k and v: boxes of 16 and of 64 rows
  bool shared[3];                   // by all images
  attention_operand<bfloat16> o;
  float* lse;   // or null
  float scale;  // of scores as logarithms to base 2
  head_sizes sizes;
  unsigned heads, heads_of_block;  // of all images; one or two
};

/// A warpgroup's 64 queries on their way over the keys, as in attending_rows, in the layout of products.
struct warpgroup_rows {
  static constexpr float largest_sum = 0x1p48f;

  float o[8][4], top[2], sum[2];
  bool fresh;

  __device__ DVLA_INLINE void begin() {
    fresh = true;
#pragma unroll
    for (int i = 0; i < 2; ++i) sum[i] = 0, top[i] = std::numeric_limits<float>::lowest();
#pragma unroll
    for (int i = 0; i < 32; ++i) o[i / 4][i % 4] = 0;
  }

  /// Brings `sum` and `o` to the maximum that includes these scores.
  template <int N>
  __device__ DVLA_INLINE void raise_top(float const (&s)[N][4], float scale) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = -std::numeric_limits<float>::infinity();
#pragma unroll
      for (int i = 0; i < 2 * N; ++i) largest = fmaxf(largest, s[i / 2][2 * r + i % 2]);
      float const raised = fmaxf(top[r], row_maximum(largest) * scale), factor = power_of_2(top[r] - raised);
      top[r] = raised;
      if (fresh) continue;
      sum[r] *= factor;
#pragma unroll
      for (int i = 0; i < 16; ++i) o[i / 2][2 * r + i % 2] *= factor;
    }
    fresh = false;
  }

  /// Scores become weights, which `sum` gathers.
  template <int N>
  __device__ DVLA_INLINE void find_weights(float (&s)[N][4], float scale) {
#pragma unroll
    for (int i = 0; i < 4 * N; ++i) {
      int const r = i % 4 / 2;
      float& x = s[i / 4][i % 4];
      x = power_of_2(fmaf(x, scale, -top[r]));
      sum[r] += x;
    }
  }

  /// Starts the products of scores and, below, of weighted sums; each is a group.
  template <int N>
  static __device__ DVLA_INLINE void send_scores(float (&s)[N][4], std::uint64_t q, std::uint64_t k) {
#pragma unroll
    for (int i = 0; i < 4 * N; ++i) s[i / 4][i % 4] = 0;
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) wgmma(s, q + 2 * i, k + 2 * i, i > 0);
    wgmma_commit();
  }
  template <int N>
  __device__ DVLA_INLINE void send_sums(std::uint32_t (&w)[N][4], std::uint64_t v) {
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < N; ++i) wgmma(o, w[i], v + 128 * i, true);
    wgmma_commit();
  }

  /// Attends to 16 keys, of which `count` exist, from begin to end.
  __device__ DVLA_INLINE void attend(std::uint64_t q, std::uint64_t k, std::uint64_t v, int count, float scale, bool raising) {
    float s[2][4];
    std::uint32_t w[1][4];
    send_scores(s, q, k);
    wgmma_wait<0>();
    wgmma_done(s);
    if (count < 16) hide_columns(s, count);
    if (fresh || raising) raise_top(s, scale);
    find_weights(s, scale);
    pack_weights(w, s);
    send_sums(w, v);
    wgmma_wait<0>();
    wgmma_done(o);
    wgmma_done(w);
  }

  /// Whether no weight of the warpgroup was too large, or no number; for all of its threads, at the block's barrier of that number.
  [[nodiscard]] __device__ DVLA_INLINE bool in_range(int barrier) const {
    return all_of_threads<group_threads>(barrier, sum[0] <= largest_sum && sum[1] <= largest_sum);
  }
};

/// One head's attention as the warps of a block see it.
struct warpgroup_head {
  warpgroup_arguments const& a;
  unsigned index;
  std::uint32_t places[3];  // of the first row of queries, keys and values in shared memory
  std::uint32_t arrived;    // a barrier for each chunk of the keys
  int groups;               // of the block

  [[nodiscard]] __device__ DVLA_INLINE head_rows<bfloat16> results() const {
    return rows_of(a.o, index / a.sizes.heads, index % a.sizes.heads, a.sizes.queries, a.sizes.dim);
  }
  [[nodiscard]] __device__ DVLA_INLINE float* lse() const {
    return a.lse == nullptr ? nullptr : a.lse + std::size_t{index} * static_cast<unsigned>(a.sizes.queries);
  }
  /// The keys are cut into chunks of 64, of which the first may have fewer.
  [[nodiscard]] __device__ DVLA_INLINE int chunks() const { return (a.sizes.keys + chunk_rows - 1) / chunk_rows; }
  [[nodiscard]] __device__ DVLA_INLINE int first_of(int chunk) const {
    return chunk == 0 ? 0 : padded_rows(a.sizes.keys) - (chunks() - chunk) * chunk_rows;
  }
  [[nodiscard]] __device__ DVLA_INLINE int rest() const { return ::max(0, a.sizes.queries - groups * chunk_rows); }
  __device__ DVLA_INLINE void await(int chunk) const { barrier_await(arrived + 8 * static_cast<unsigned>(chunk)); }

  /// Sends for all rows, by one thread. Queries come with the first chunk of the keys.
  __device__ DVLA_INLINE void fetch() const {
    int const all = chunks(), query_rows = groups * chunk_rows + (rest() > 0 ? tile_rows : 0);
    int const head = static_cast<int>(index % a.sizes.heads), image = static_cast<int>(index / a.sizes.heads);
#pragma unroll 1
    for (int i = 0; i < all; ++i) {
      std::uint32_t const barrier = arrived + 8 * static_cast<unsigned>(i);
      int const begin[3] = {0, first_of(i), first_of(i)}, end[3] = {i == 0 ? query_rows : 0, first_of(i + 1), first_of(i + 1)};
      int const rows = end[0] + 2 * (end[1] - begin[1]);
      barrier_arrive_expecting(barrier, static_cast<unsigned>(rows * swizzled_row));
#pragma unroll
      for (int part = 0; part < 3; ++part)
#pragma unroll 1
        for (int row = begin[part]; row < end[part];) {
          bool const whole = end[part] - row >= chunk_rows;
          copy_box(places[part] + static_cast<unsigned>(row * swizzled_row), whole ? a.chunks[part] : a.tiles[part], row, head,
                   a.shared[part] ? 0 : image, barrier);
          row += whole ? chunk_rows : tile_rows;
        }
    }
  }

  /// How far an operand of products moves to get to a row, a multiple of 16.
  [[nodiscard]] static __device__ DVLA_INLINE unsigned steps_to(int row) { return block_step * static_cast<unsigned>(row / tile_rows); }
  /// The operand of products that warpgroup `group`'s queries are.
  [[nodiscard]] __device__ DVLA_INLINE std::uint64_t own(int group) const {
    return swizzled_operand(places[0] + static_cast<unsigned>(group * chunk_rows * swizzled_row));
  }

  /// Sends for the scores of the first 16 keys and of the second chunk.
  __device__ DVLA_INLINE void start(float (&few)[2][4], float (&s)[8][4], int group) const {
    await(0);
    warpgroup_rows::send_scores(few, own(group), swizzled_operand(places[1]));
    await(1);
    warpgroup_rows::send_scores(s, own(group), swizzled_operand(places[1]) + steps_to(first_of(1)));
  }

  /// Warpgroup `group`'s own queries, of which start() has sent for the first scores; of keys there are Chunks chunks and the first one.
  template <int Chunks>
  __device__ DVLA_INLINE void attend(warpgroup_rows& of, float (&few)[2][4], float (&s)[8][4], int group) const {
    of.begin();
    attend_chunks<Chunks>(of, few, s, group);
    int const all = padded_rows(a.sizes.keys);
    int row = tile_rows, end = first_of(1);
    for (bool raising = false;; raising = true) {
#pragma unroll 1
      for (; row < end; row += tile_rows) {
        unsigned const at = steps_to(row);
        of.attend(own(group), swizzled_operand(places[1]) + at, swizzled_operand(places[2]) + at, a.sizes.keys - row, a.scale, raising);
      }
      if (of.in_range(1 + group) || raising) return;
      of.begin();
      row = 0, end = all;
    }
  }

  /// The first 16 keys and all chunks but the first. While weights of a chunk are found, the products for the scores of the next one
  /// and for the sums of the last one are under way.
  template <int Chunks>
  __device__ DVLA_INLINE void attend_chunks(warpgroup_rows& of, float (&few)[2][4], float (&s)[8][4], int group) const {
    static_assert(Chunks == 2 || Chunks == 3);
    std::uint32_t w[4][4], x[4][4], few_weights[1][4];
    int chunk = 2, count = a.sizes.keys - first_of(1);
    std::uint64_t const q = own(group);
    std::uint64_t k = swizzled_operand(places[1]) + steps_to(first_of(1)), v = swizzled_operand(places[2]) + steps_to(first_of(1));
    wgmma_wait<1>();
    wgmma_done(few);
    of.raise_top(few, a.scale);
    of.find_weights(few, a.scale);
    pack_weights(few_weights, few);
    of.send_sums(few_weights, swizzled_operand(places[2]));
    auto const weigh = [&](std::uint32_t(&to)[4][4]) {
      wgmma_wait<1>();
      wgmma_done(s);
      if (count < chunk_rows) hide_columns(s, count);
      of.find_weights(s, a.scale);
      pack_weights(to, s);
      count -= chunk_rows;
    };
    auto const step = [&](std::uint32_t(&now)[4][4], std::uint32_t(&next)[4][4]) {
      await(chunk++);
      of.send_scores(s, q, k += chunk_step);
      of.send_sums(now, v);
      v += chunk_step;
      weigh(next);
    };
    weigh(w);
    step(w, x);
    if constexpr (Chunks == 3) {
      step(x, w);
      of.send_sums(w, v);
    } else {
      of.send_sums(x, v);
    }
    wgmma_wait<0>();
    wgmma_done(of.o);
    wgmma_done(few_weights);
    wgmma_done(w);
    wgmma_done(x);
  }

  /// The results of warpgroup `group`'s queries, through their place in shared memory, where every warp has read them.
  __device__ DVLA_INLINE void put(warpgroup_rows const& of, int group) const {
    unsigned const lane = threadIdx.x % 32, warp = threadIdx.x % group_threads / 32;
    int const first = group * chunk_rows + static_cast<int>(warp) * tile_rows;
    std::uint32_t const place = places[0] + static_cast<unsigned>(first * swizzled_row);
    float const sum[2] = {row_sum(of.sum[0]), row_sum(of.sum[1])}, factor[2] = {1 / sum[0], 1 / sum[1]};
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      std::uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float const* const x = &of.o[2 * i + j / 2][j % 2 * 2];
        words[j] = bfloat16_word(x[0] * factor[j % 2], x[1] * factor[j % 2]);
      }
      store_matrices(place + swizzled_place(lane % 16, 2 * i + lane / 16), words);
    }
    if (a.lse != nullptr && lane % 4 == 0) {
#pragma unroll
      for (int r = 0; r < 2; ++r)
        if (int const row = first + static_cast<int>(lane / 4) + 8 * r; row < a.sizes.queries)
          lse()[row] = of.top[r] / log2_of_e + logf(sum[r]);
    }
    __syncwarp();
    auto const to = results();
    unsigned const packet = lane % 8;
    bfloat16* const at = to.data + static_cast<std::size_t>(first + static_cast<int>(lane / 8)) * to.step + 8 * packet;
#pragma unroll
    for (unsigned i = 0; i < 4; ++i) {
      std::uint32_t words[4];
      load_words(words, place + swizzled_place(4 * i + lane / 8, packet));
      if (first + static_cast<int>(4 * i + lane / 8) < to.count && static_cast<int>(8 * packet) < to.dim)
        *reinterpret_cast<uint4*>(at + 4 * i * to.step) = uint4{words[0], words[1], words[2], words[3]};
    }
  }
};

/// Shared memory holds queries, keys and values of each head, rows as wgmma.cuh reads them, then what the rest's keys come to.
/// Chunks, 2 or 3, is the number of chunks of the keys without the first one.
template <int Chunks>
__global__ void __launch_bounds__((most_groups + 1) * group_threads, 1)
    warpgroup_forward_kernel(__grid_constant__ warpgroup_arguments const a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  __shared__ std::uint64_t arrived[2][Chunks + 1];
  extern __shared__ uint4 attention_memory[];
  int const groups = static_cast<int>(blockDim.x) / group_threads - 1;
  int const group = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / group_threads, 0);
  std::uint32_t const address = shared_address(attention_memory), begin = (address + 1023) / 1024 * 1024;
  int const rest = ::max(0, a.sizes.queries - groups * chunk_rows);
  std::uint32_t const key_bytes = static_cast<unsigned>(padded_rows(a.sizes.keys) * swizzled_row);
  std::uint32_t const head_bytes =
      2 * key_bytes + static_cast<unsigned>((groups * chunk_rows + (rest > 0 ? tile_rows : 0)) * swizzled_row);
  unsigned const first = blockIdx.x * a.heads_of_block, count = ::min(a.heads_of_block, a.heads - first);
  auto const head = [&](unsigned i) {
    std::uint32_t const at = begin + i * head_bytes;
    return warpgroup_head{a, first + i, {at + 2 * key_bytes, at, at + key_bytes}, shared_address(arrived[i]), groups};
  };
  if (threadIdx.x < 2 * (Chunks + 1)) barrier_begin(shared_address(arrived[0] + threadIdx.x), 1);
  __syncthreads();
  if (group == groups) {
    keep_registers<rest_registers>();
    bool const chosen = threadIdx.x % group_threads == 0;
    if (chosen)
      for (int i = 0; i < 3; ++i) prefetch_map(a.tiles[i]), prefetch_map(a.chunks[i]);
    detail::await_predecessors();
    for (unsigned i = 0; i < count && chosen; ++i) head(i).fetch();
    __syncwarp();
    if (rest == 0) return;
    auto* const parts = reinterpret_cast<float*>(reinterpret_cast<char*>(attention_memory) + (begin - address) +
                                                 a.heads_of_block * head_bytes);
#pragma unroll 1
    for (unsigned i = 0; i < count; ++i) {
      auto const of = head(i);
      for (int j = 0; j <= Chunks; ++j) of.await(j);
      rest_of_head const left{{of.places[0], of.places[1], of.places[2]}, parts, a.scale, a.sizes.keys, groups * chunk_rows, rest};
      left.attend_and_put(of.results(), of.lse(), 1 + groups);
    }
  } else {
    take_registers<group_registers>();
    detail::await_predecessors();
    float few[2][4], s[8][4];
    warpgroup_rows of;
#pragma unroll 1
    for (unsigned i = 0; i < count; ++i) {
      head(i).start(few, s, group);
      head(i).template attend<Chunks>(of, few, s, group);
      head(i).put(of, group);
    }
  }
#endif
}

/// Attention by warpgroup_forward_kernel(), if that is compiled for this card and for the shape, and the operands allow it.
[[nodiscard]] inline bool forward_by_warpgroups(cuda_queue& queue, attention_shape const& shape, float scale,
                                                attention_operand<bfloat16 const> const& q, attention_operand<bfloat16 const> const& k,
                                                attention_operand<bfloat16 const> const& v, attention_operand<bfloat16> const& o,
                                                float* lse) {
  std::size_t tiles = shape.queries / chunk_rows, rest = shape.queries % chunk_rows;
  if (rest > most_rest) ++tiles, rest = 0;
  std::size_t const keys = padded_rows(shape.keys), chunks = (keys - 1) / chunk_rows, heads = shape.batch * shape.heads;
  unsigned const heads_of_block = heads > static_cast<std::size_t>(queue.multiprocessors()) ? 2 : 1;
  if (tiles < 1 || tiles > most_groups || chunks < 2 || chunks > 3 || shape.head_dim > 64) return false;
  std::size_t const rows = 2 * keys + chunk_rows * tiles + (rest > 0 ? tile_rows : 0);
  std::size_t const bytes =
      1024 + heads_of_block * rows * swizzled_row + (keys + rest_keys - 1) / rest_keys * rest * rest_pitch * sizeof(float);
  if (bytes + 128 > queue.shared_memory()) return false;
  warpgroup_arguments arguments{{}, {}, {}, o, lse, scale * log2_of_e, head_sizes(shape), static_cast<unsigned>(heads), heads_of_block};
  auto const map = [&](int i, attention_operand<bfloat16 const> const& x, std::size_t count) {
    arguments.shared[i] = x.strides.batch == 0;
    return make_tensor_map(arguments.tiles[i], x, shape, count, tile_rows) &&
           make_tensor_map(arguments.chunks[i], x, shape, count, chunk_rows);
  };
  auto const run = [&]<int Chunks>(std::integral_constant<int, Chunks>) {
    constexpr auto* kernel = &warpgroup_forward_kernel<Chunks>;
    if (queue.properties(reinterpret_cast<void const*>(kernel)).sharedSizeBytes == 0) return false;  // has no body
    if (!map(0, q, shape.queries) || !map(1, k, shape.keys) || !map(2, v, shape.keys)) return false;
    launch<warpgroup_forward_kernel<Chunks>>(queue, (heads + heads_of_block - 1) / heads_of_block, static_cast<unsigned>(4 * tiles + 4),
                                             bytes, arguments);
    return true;
  };
  return chunks == 2 ? run(std::integral_constant<int, 2>{}) : run(std::integral_constant<int, 3>{});
}

}  // namespace attention_cuda
}  // namespace kernels
}  // namespace dvla::inline DVLA_ABI
