// One type for every generator, where which one it is shows at run time.
#pragma once

#include <concepts>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <dvla/core/config.hpp>
#include <dvla/semantics/generation.hpp>

namespace dvla::inline DVLA_ABI {

/// Owns a generator of any type and is one.
class any_generator {
 public:
  template <class G>
  requires(!std::same_as<std::remove_cvref_t<G>, any_generator>) && generator<std::remove_cvref_t<G>> any_generator(G&& source)
      : held_(std::make_unique<holder<std::remove_cvref_t<G>>>(std::forward<G>(source))) {}

  [[nodiscard]] std::string identity() { return held_->identity(); }
  [[nodiscard]] std::vector<generation_result> generate(std::span<generation_request const> requests,
                                                        generation_progress const& progress = {}) {
    return held_->generate(requests, progress);
  }

 private:
  struct base {
    virtual ~base() = default;
    virtual std::string identity() = 0;
    virtual std::vector<generation_result> generate(std::span<generation_request const>, generation_progress const&) = 0;
  };

  template <class G>
  struct holder final : base {
    template <class From>
    explicit holder(From&& from) : source(std::forward<From>(from)) {}
    std::string identity() override { return source.identity(); }
    std::vector<generation_result> generate(std::span<generation_request const> requests,
                                            generation_progress const& progress) override {
      return source.generate(requests, progress);
    }
    G source;
  };

  std::unique_ptr<base> held_;
};

static_assert(generator<any_generator>);

}  // namespace dvla::inline DVLA_ABI
