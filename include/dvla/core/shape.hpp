// A shape is a type: shape<dyn, 196, 192> is known to the compiler but for the batch. Static extents take no storage.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>

#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// An extent that is known at run time only.
inline constexpr std::size_t dyn = static_cast<std::size_t>(-1);

/// The extents of a tensor, outermost first; `dyn` marks those that a value of the type carries.
template <std::size_t... Extents>
class shape {
 public:
  static constexpr std::size_t rank = sizeof...(Extents);
  static constexpr std::size_t dynamic_rank = (0 + ... + std::size_t{Extents == dyn});
  static constexpr std::array<std::size_t, rank> statics{Extents...};

  constexpr shape() = default;

  /// One number for each dyn, or one for each extent; a number for a static extent must equal it.
  template <class... N>
    requires(sizeof...(N) > 0 && (std::is_convertible_v<N, std::size_t> && ...) &&
             (sizeof...(N) == dynamic_rank || sizeof...(N) == rank))
  constexpr explicit(sizeof...(N) == 1) shape(N... extents) {
    std::array<std::size_t, sizeof...(N)> const given{static_cast<std::size_t>(extents)...};
    if constexpr (sizeof...(N) == dynamic_rank) {
      dynamic_ = given;
    } else {
      for (std::size_t i = 0; i < rank; ++i) set(i, given[i]);
    }
  }

  /// From another shape of the same rank; a static extent that meets a different one throws.
  template <std::size_t... Others>
    requires(sizeof...(Others) == rank && ((Extents == dyn || Others == dyn || Extents == Others) && ...))
  constexpr shape(shape<Others...> const& other) {  // NOLINT: a compatible shape converts
    for (std::size_t i = 0; i < rank; ++i) set(i, other[i]);
  }

  [[nodiscard]] static constexpr std::size_t static_extent(std::size_t i) { return statics[i]; }

  [[nodiscard]] constexpr std::size_t operator[](std::size_t i) const {
    if constexpr (dynamic_rank == 0) {
      return statics[i];
    } else if constexpr (dynamic_rank == 1) {  // the usual case; g++ 12 warns about an index that it cannot follow
      return statics[i] == dyn ? dynamic_[0] : statics[i];
    } else {
      return statics[i] == dyn ? dynamic_[position(i)] : statics[i];
    }
  }

  /// The number of elements.
  [[nodiscard]] constexpr std::size_t size() const {
    std::size_t product = 1;
    for (std::size_t i = 0; i < rank; ++i) product *= (*this)[i];
    return product;
  }

  [[nodiscard]] constexpr std::array<std::size_t, rank> extents() const {
    std::array<std::size_t, rank> all{};
    for (std::size_t i = 0; i < rank; ++i) all[i] = (*this)[i];
    return all;
  }

 private:
  /// The place of a dynamic extent among them. Of a static one, which is not asked for, 0: g++ 12 warns about an index that it
  /// cannot follow.
  [[nodiscard]] static constexpr std::size_t position(std::size_t i) {
    std::size_t before = 0;
    for (std::size_t j = 0; j < i; ++j) before += statics[j] == dyn;
    return before < dynamic_rank ? before : 0;
  }

  constexpr void set(std::size_t i, std::size_t extent) {
    if (statics[i] != dyn) {
      expect(extent == statics[i], "shape: extent ", i, " is ", statics[i], " in the type but ", extent,
             " was given; pass a tensor of that extent or make it dyn in the type");
    } else if constexpr (dynamic_rank > 0) {
      dynamic_[position(i)] = extent;
    }
  }

  struct nothing {};  // std::array<T, 0> is not empty in libstdc++
  [[no_unique_address]] std::conditional_t<dynamic_rank == 0, nothing, std::array<std::size_t, dynamic_rank>> dynamic_{};
};

template <std::size_t... A, std::size_t... B>
[[nodiscard]] constexpr bool operator==(shape<A...> const& a, shape<B...> const& b) {
  if constexpr (sizeof...(A) != sizeof...(B)) {
    return false;
  } else {
    for (std::size_t i = 0; i < sizeof...(A); ++i)
      if (a[i] != b[i]) return false;
    return true;
  }
}

namespace detail {

/// Not a template over shapes: one function serves the messages of all of them.
[[nodiscard]] inline std::string extents_text(std::size_t const* extents, std::size_t rank) {
  std::string out = "(";
  for (std::size_t i = 0; i < rank; ++i) out += (i > 0 ? ", " : "") + std::to_string(extents[i]);
  return out + ")";
}

}  // namespace detail

/// "(16, 196, 192)".
template <std::size_t... E>
[[nodiscard]] std::string to_string(shape<E...> const& s) {
  auto const extents = s.extents();
  return detail::extents_text(extents.data(), extents.size());
}

/// Never defined: its name is the compiler's error message when two shapes do not fit an operation.
template <class Operation, class Left, class Right>
struct shape_mismatch;

namespace detail {

/// Two extents that can be the same number.
[[nodiscard]] constexpr bool may_equal(std::size_t a, std::size_t b) { return a == b || a == dyn || b == dyn; }

/// The one of two equal extents that is known.
[[nodiscard]] constexpr std::size_t known(std::size_t a, std::size_t b) { return a == dyn ? b : a; }

/// Ends the compilation with shape_mismatch<Operation, Left, Right> in the message unless Fits.
template <bool Fits, class Operation, class Left, class Right>
constexpr void require_fit() {
  if constexpr (!Fits) (void)sizeof(shape_mismatch<Operation, Left, Right>);
}

/// The same for a class: derived from, it is the one error of the compilation, for what uses the class still compiles.
template <bool Fits, class Operation, class Left, class Right>
struct fit {};
template <class Operation, class Left, class Right>
struct fit<false, Operation, Left, Right> {
  using checked = char[sizeof(shape_mismatch<Operation, Left, Right>)];
};

/// Throws unless two run-time extents are equal.
template <std::size_t... A, std::size_t... B>
void expect_extent(char const* operation, shape<A...> const& left, std::size_t i, shape<B...> const& right, std::size_t j) {
  expect(left[i] == right[j], operation, ": extent ", i, " of ", left, " and extent ", j, " of ", right,
         " must be equal; check the tensors that are passed");
}

template <std::size_t... E, std::size_t... I>
auto dropped(shape<E...>, std::index_sequence<I...>) -> shape<shape<E...>::statics[sizeof...(E) - sizeof...(I) + I]...>;

template <std::size_t... E, std::size_t... I>
auto kept(shape<E...>, std::index_sequence<I...>) -> shape<shape<E...>::statics[I]...>;

}  // namespace detail

/// S without its first N extents.
template <class S, std::size_t N = 1>
using drop_front = decltype(detail::dropped(S{}, std::make_index_sequence<S::rank - N>{}));

/// The first N extents of S.
template <class S, std::size_t N>
using keep_front = decltype(detail::kept(S{}, std::make_index_sequence<N>{}));

namespace detail {

template <std::size_t Axis, std::size_t E, class S, std::size_t... I>
auto replaced(S, std::index_sequence<I...>) -> shape<(I == Axis ? E : S::statics[I])...>;

template <std::size_t... A, std::size_t... B>
auto join(shape<A...>, shape<B...>) -> shape<A..., B...>;

}  // namespace detail

/// S with extent Axis replaced by E.
template <class S, std::size_t Axis, std::size_t E>
using replace_extent = decltype(detail::replaced<Axis, E>(S{}, std::make_index_sequence<S::rank>{}));

/// The extents of A followed by those of B.
template <class A, class B>
using join_shapes = decltype(detail::join(A{}, B{}));

namespace detail {

/// A shape value of type S with these extents, from an array.
template <class S>
[[nodiscard]] constexpr S make_shape(std::array<std::size_t, S::rank> const& extents) {
  if constexpr (S::rank == 0) {
    return S{};
  } else {
    return [&]<std::size_t... I>(std::index_sequence<I...>) { return S(extents[I]...); }(std::make_index_sequence<S::rank>{});
  }
}

}  // namespace detail
}  // namespace dvla::inline DVLA_ABI
