// An owning tensor: memory of its device, 64-byte aligned on the heap whatever the flags, moved but not copied silently.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <dvla/core/view.hpp>

namespace dvla::inline DVLA_ABI {

/// Elements of type T (float, double, bfloat16 or an integer) in row-major order on Device.
template <class T, class S, class Device = cpu>
class tensor {
 public:
  using value_type = T;
  using shape_type = S;
  using device_type = Device;
  static constexpr std::size_t rank = S::rank;

  /// A tensor whose extents are all in the type. Elements are value-initialised to zero.
  tensor()
    requires(S::dynamic_rank == 0)
      : tensor(S{}) {}

  /// Elements are zero.
  explicit tensor(S const& s) : extents_(s), data_(allocate(s)) {
    Device::clear_bytes(data_, size() * sizeof(T));
  }

  /// From the extents that the type leaves open: tensor<float, shape<dyn, 3>> t(16). Elements are zero.
  template <class... N>
    requires(sizeof...(N) == S::dynamic_rank && sizeof...(N) > 0 && (std::is_integral_v<N> && ...))
  explicit tensor(N... extents) : tensor(S(static_cast<std::size_t>(extents)...)) {}

  tensor(tensor&& other) noexcept : extents_(other.extents_), data_(std::exchange(other.data_, nullptr)) {}
  tensor& operator=(tensor&& other) noexcept {
    if (this != &other) {
      Device::deallocate(data_);
      extents_ = other.extents_;
      data_ = std::exchange(other.data_, nullptr);
    }
    return *this;
  }
  tensor(tensor const&) = delete;  // copy with clone(), where it can be seen
  tensor& operator=(tensor const&) = delete;
  ~tensor() { Device::deallocate(data_); }

  /// Evaluates an expression into this tensor (kernels/cpu/elementwise.hpp); its shape must equal the tensor's.
  template <class E>
    requires(E::is_expression)
  tensor& operator=(E const& e) {
    assign(view_of(), e);
    return *this;
  }

  [[nodiscard]] tensor clone() const {
    tensor copy(extents_);
    Device::copy_bytes(copy.data_, data_, size() * sizeof(T));
    return copy;
  }

  /// The elements in host memory, whatever the device.
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> host(size());
    Device::copy_bytes(host.data(), data_, size() * sizeof(T));
    return host;
  }
  /// Replaces the elements by those of host memory; their numbers must be equal.
  void write(std::span<T const> host) {
    expect(host.size() == size(), "tensor: ", host.size(), " elements were given for a tensor of shape ", extents_);
    Device::copy_bytes(data_, host.data(), size() * sizeof(T));
  }

  void fill(T value)
    requires(Device::is_host)
  {
    for (std::size_t i = 0; i < size(); ++i) data_[i] = value;
  }

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] T const* data() const { return data_; }
  [[nodiscard]] S const& shape() const { return extents_; }
  [[nodiscard]] std::size_t size() const { return extents_.size(); }

  template <class... I>
  [[nodiscard]] T& operator()(I... index) {
    return view_of()(index...);
  }
  template <class... I>
  [[nodiscard]] T const& operator()(I... index) const {
    return view_of()(index...);
  }

  [[nodiscard]] view<T, S, contiguous, Device> view_of() & { return {data_, extents_}; }
  [[nodiscard]] view<T const, S, contiguous, Device> view_of() const& { return {data_, extents_}; }
  void view_of() && = delete;  // a view of a temporary would dangle

  operator view<T, S, contiguous, Device>() & { return view_of(); }               // NOLINT
  operator view<T const, S, contiguous, Device>() const& { return view_of(); }  // NOLINT

 private:
  static T* allocate(S const& s) {
    std::size_t room = static_cast<std::size_t>(PTRDIFF_MAX) / sizeof(T);  // the product below cannot overflow it
    for (std::size_t i = 0; i < rank; ++i) {
      expect(s[i] <= room, "tensor: ", s, " has more elements than memory has addresses; check the extents");
      if (s[i] > 0) room /= s[i];
    }
    return static_cast<T*>(Device::allocate((s.size() > 0 ? s.size() : 1) * sizeof(T)));
  }

  S extents_;
  T* data_;
};

}  // namespace dvla::inline DVLA_ABI
