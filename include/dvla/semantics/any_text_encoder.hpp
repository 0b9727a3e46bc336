// A text encoder whose kind is known at run time only: what a tool holds.
#pragma once

#include <memory>
#include <utility>

#include <dvla/semantics/text_encoder.hpp>

namespace dvla::inline DVLA_ABI {

/// Any text encoder; copies share it.
class any_text_encoder {
 public:
  template <text_encoder E>
    requires(!std::is_same_v<std::remove_cvref_t<E>, any_text_encoder>)
  any_text_encoder(E encoder)  // NOLINT: an encoder is one of any kind
      : held_(std::make_shared<holder<E>>(std::move(encoder))) {}

  [[nodiscard]] std::size_t width() const { return held_->width(); }
  [[nodiscard]] std::string identity() const { return held_->identity(); }
  [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const { return held_->encode(texts); }

 private:
  struct base {
    virtual ~base() = default;
    [[nodiscard]] virtual std::size_t width() const = 0;
    [[nodiscard]] virtual std::string identity() const = 0;
    [[nodiscard]] virtual std::vector<float> encode(std::span<std::string const> texts) const = 0;
  };

  template <class E>
  struct holder final : base {
    explicit holder(E encoder) : inner(std::move(encoder)) {}
    [[nodiscard]] std::size_t width() const override { return inner.width(); }
    [[nodiscard]] std::string identity() const override { return inner.identity(); }
    [[nodiscard]] std::vector<float> encode(std::span<std::string const> texts) const override { return inner.encode(texts); }
    E inner;
  };

  std::shared_ptr<base const> held_;
};

}  // namespace dvla::inline DVLA_ABI
