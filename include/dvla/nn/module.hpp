// Modules: a struct with named members. `members` is the only bookkeeping; from it come the names in checkpoints, the walk
// of the optimizer, initialisation and the parameter count.
#pragma once

#include <tuple>
#include <vector>

#include <dvla/autodiff/parameter.hpp>
#include <dvla/kernels/cpu/memory.hpp>

namespace dvla::inline DVLA_ABI {
namespace detail {

template <class Pointer>
struct field {
  char const* name;
  Pointer pointer;
};

template <class... Pairs, std::size_t... I>
constexpr auto make_fields(std::tuple<Pairs...> const& all, std::index_sequence<I...>) {
  return std::make_tuple(field<std::tuple_element_t<2 * I + 1, std::tuple<Pairs...>>>{std::get<2 * I>(all), std::get<2 * I + 1>(all)}...);
}

template <class M>
concept module_like = requires { M::members; };

template <class M>
concept parameter_like = requires { requires M::is_parameter; };

}  // namespace detail

/// Names and pointers to members, in the order in which they are saved: fields("weight", &linear::weight, ...).
template <class... NamesAndMembers>
[[nodiscard]] constexpr auto fields(NamesAndMembers... all) {
  static_assert(sizeof...(all) % 2 == 0, "fields: a name before each member");
  return detail::make_fields(std::make_tuple(all...), std::make_index_sequence<sizeof...(all) / 2>{});
}

/// Calls f(name, parameter) for every parameter of a model, in the order of `members`; names are joined with dots, elements
/// of arrays by their number.
template <class M, class F>
void for_each_parameter(M& model, F&& f, std::string const& name = "") {
  if constexpr (detail::parameter_like<std::remove_const_t<M>>) {
    f(name, model);
  } else if constexpr (detail::module_like<std::remove_const_t<M>>) {
    std::string const prefix = name.empty() ? name : name + ".";
    std::apply([&](auto const&... member) { (for_each_parameter(model.*(member.pointer), f, prefix + member.name), ...); },
               std::remove_const_t<M>::members);
  } else {
    std::string const prefix = name.empty() ? name : name + ".";
    std::size_t index = 0;
    for (auto& element : model) for_each_parameter(element, f, prefix + std::to_string(index++));
  }
}

/// Calls f(module) for every module of a model, outer ones first.
template <class M, class F>
void for_each_module(M& model, F&& f) {
  if constexpr (detail::parameter_like<std::remove_const_t<M>>) {
  } else if constexpr (detail::module_like<std::remove_const_t<M>>) {
    f(model);
    std::apply([&](auto const&... member) { (for_each_module(model.*(member.pointer), f), ...); }, std::remove_const_t<M>::members);
  } else {
    for (auto& element : model) for_each_module(element, f);
  }
}

namespace detail {

template <class M>
auto scalar_of() {
  if constexpr (parameter_like<M>) {
    return typename M::value_type{};
  } else if constexpr (module_like<M>) {
    using first = std::remove_cvref_t<decltype(std::declval<M&>().*(std::get<0>(M::members).pointer))>;
    return scalar_of<first>();
  } else {
    return scalar_of<std::remove_cvref_t<decltype(*std::declval<M&>().begin())>>();
  }
}

}  // namespace detail

/// Whether parameters have memory for gradients: a model that is only read has none.
enum class gradient_memory { allocated, none };

/// All parameters of a model in one flat buffer, their gradients in a second and its statistics in a third. Keep it alive as
/// long as the model is used; the model's parameters point into it.
template <class T = float, class Device = cpu>
class parameters {
 public:
  struct entry {
    std::string name;
    archive_layout layout;
    role kind;
    std::size_t offset, count;  // in elements, within the buffer of its kind
  };

  /// Lays the model out and binds it; every element is zero. Without memory for gradients nothing can be learned: an optimizer
  /// cannot be made of them.
  template <class Model>
  explicit parameters(Model& model, Device device = {}, gradient_memory memory = gradient_memory::allocated)
      : device_(device), learns_(memory == gradient_memory::allocated) {
    for_each_parameter(model, [&](std::string const& name, auto& p) { add(name, p.published_layout(), p.kind, p.size()); });
    allocate();
    std::size_t i = 0;
    for_each_parameter(model, [&](std::string const&, auto& p) { bind(entries_[i++], p); });
  }

  [[nodiscard]] std::vector<entry> const& entries() const { return entries_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device>& weights() { return weights_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device> const& weights() const { return weights_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device>& gradients() { return gradients_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device> const& gradients() const { return gradients_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device>& statistics() { return statistics_; }
  [[nodiscard]] tensor<T, shape<dyn>, Device> const& statistics() const { return statistics_; }
  [[nodiscard]] Device const& device() const { return device_; }
  /// Whether there is memory for gradients.
  [[nodiscard]] bool learns() const { return learns_; }

  /// The elements of an entry, in the model's memory order.
  [[nodiscard]] T* data(entry const& e) { return (e.kind == role::weight ? weights_ : statistics_).data() + e.offset; }
  [[nodiscard]] T const* data(entry const& e) const { return (e.kind == role::weight ? weights_ : statistics_).data() + e.offset; }

  /// The elements of an entry in host memory, in the model's memory order.
  [[nodiscard]] std::vector<T> read(entry const& e) const { return host_copy(data(e), e.count); }
  /// The gradient of a weight in host memory.
  [[nodiscard]] std::vector<T> read_gradient(entry const& e) const {
    expect(learns_, "parameter ", e.name, " has no gradient: its model was laid out without memory for gradients");
    return host_copy(gradients_.data() + e.offset, e.count);
  }
  /// Replaces the elements of an entry; weights_changed() is to follow the last one.
  void write(entry const& e, std::span<T const> host) {
    expect(host.size() == e.count, "parameter ", e.name, " has ", e.count, " elements, but ", host.size(), " were given");
    Device::copy_bytes(data(e), host.data(), e.count * sizeof(T));
  }

  /// Number of learned elements.
  [[nodiscard]] std::size_t count() const {
    std::size_t total = 0;
    for (auto const& e : entries_) total += e.kind == role::weight ? e.count : 0;
    return total;
  }

  /// The weights rounded to bfloat16, on a device that multiplies so; null elsewhere.
  [[nodiscard]] bfloat16* rounded() { return rounds ? rounded_.data() : nullptr; }
  /// To be called after the weights were changed other than by an optimizer, initialise() or the readers of files: rounds them
  /// anew where the device multiplies bfloat16.
  void weights_changed() {
    if constexpr (rounds) convert(device_, weights_.size(), static_cast<T const*>(weights_.data()), rounded_.data(), false);
  }

  void zero_gradients() { fill(device_, gradients_.size(), gradients_.data(), T(0)); }

 private:
  void add(std::string const& name, archive_layout layout, role kind, std::size_t count) {
    std::size_t offset = 0;
    for (auto const& e : entries_)
      if (e.kind == kind) offset = padded_end(e);
    entries_.push_back({name, layout, kind, offset, count});
  }

  void allocate() {
    std::size_t weights = 0, statistics = 0;
    for (auto const& e : entries_) (e.kind == role::weight ? weights : statistics) = padded_end(e);
    weights_ = tensor<T, shape<dyn>, Device>(shape<dyn>(weights));
    gradients_ = tensor<T, shape<dyn>, Device>(shape<dyn>(learns_ ? weights : 0));
    statistics_ = tensor<T, shape<dyn>, Device>(shape<dyn>(statistics));
    if constexpr (rounds) rounded_ = tensor<bfloat16, shape<dyn>, Device>(shape<dyn>(weights));
  }

  template <class P>
  void bind(entry const& e, P& p) {
    if (e.kind == role::weight)
      p.bind(device_, weights_.data() + e.offset, learns_ ? gradients_.data() + e.offset : nullptr,
             rounds ? rounded_.data() + e.offset : nullptr);
    else p.bind(device_, statistics_.data() + e.offset, nullptr);
  }

  [[nodiscard]] static std::size_t padded_end(entry const& e) { return e.offset + (e.count + padding - 1) / padding * padding; }

  [[nodiscard]] static std::vector<T> host_copy(T const* from, std::size_t count) {
    std::vector<T> host(count);
    Device::copy_bytes(host.data(), from, count * sizeof(T));
    return host;
  }

  static constexpr bool rounds = !std::is_same_v<typename Device::template stored<T>, T>;
  static constexpr std::size_t padding = 16;  // elements: every parameter starts on a cache line

  Device device_;
  bool learns_;
  std::vector<entry> entries_;
  tensor<T, shape<dyn>, Device> weights_{shape<dyn>(0)}, gradients_{shape<dyn>(0)}, statistics_{shape<dyn>(0)};
  tensor<bfloat16, shape<dyn>, Device> rounded_{shape<dyn>(0)};
};

namespace detail {

template <class M>
concept laid_out = requires(M const& m) { m.entries(); };

}  // namespace detail

template <class Model>
  requires(!detail::laid_out<Model>)  // nvcc asks g++ to deduce a copy
explicit parameters(Model&) -> parameters<decltype(detail::scalar_of<Model>())>;
template <class Model, class Device>
  requires(!detail::laid_out<Model>)
explicit parameters(Model&, Device) -> parameters<decltype(detail::scalar_of<Model>()), Device>;
template <class Model, class Device>
  requires(!detail::laid_out<Model>)
explicit parameters(Model&, Device, gradient_memory) -> parameters<decltype(detail::scalar_of<Model>()), Device>;

/// Fills parameters; each random fill has a stream of its own.
class initialiser {
 public:
  explicit initialiser(std::uint64_t seed) : seed_(seed) {}

  template <class P>
  void constant(P& p, double value) {
    fill(p, [=] { return value; });
  }
  template <class P>
  void normal(P& p, double deviation) {
    auto random = next();
    fill(p, [&] { return deviation * random.normal(); });
  }
  template <class P>
  void uniform(P& p, double bound) {
    auto random = next();
    fill(p, [&] { return random.uniform(-bound, bound); });
  }

 private:
  template <class P, class Draw>
  static void fill(P& p, Draw draw_one) {
    using T = typename P::value_type;
    std::vector<T> host(p.size());
    for (T& x : host) x = static_cast<T>(draw_one());
    p.write(host);
  }

  random_stream next() { return {seed_, draw::initialise, next_++, 0}; }

  std::uint64_t seed_;
  std::uint32_t next_ = 0;
};

/// Sets every parameter of a bound model as its module prescribes, from a seed: first each module's initialise(initialiser&),
/// outer modules before inner ones, then each finish_initialisation(initialiser&), for what an outer module overrides.
template <class Model>
void initialise(Model& model, std::uint64_t seed) {
  for_each_parameter(model, [](std::string const& name, auto& p) {
    expect(p.data() != nullptr, "initialise: parameter ", name, " has no memory yet; construct parameters(model) first");
  });
  initialiser init(seed);
  for_each_module(model, [&](auto& module) {
    if constexpr (requires { module.initialise(init); }) module.initialise(init);
  });
  for_each_module(model, [&](auto& module) {
    if constexpr (requires { module.finish_initialisation(init); }) module.finish_initialisation(init);
  });
}

}  // namespace dvla::inline DVLA_ABI
