// Texts into a bank of vectors, by any text encoder.
#pragma once

#include <map>

#include <dvla/semantics/bank_file.hpp>
#include <dvla/semantics/class_texts.hpp>
#include <dvla/semantics/description.hpp>
#include <dvla/semantics/text_encoder.hpp>

namespace dvla::inline DVLA_ABI {

/// Which texts a class's vectors are made of. A model always sees local vectors and a global one:
///   both         local: the attributes, global: the description
///   attributes   local: the attributes, global: their mean, at unit length
///   description  local and global: the description
///   names        local and global: the class-name template
enum class bank_content { both, attributes, description, names };

[[nodiscard]] constexpr char const* to_string(bank_content content) {
  constexpr char const* names[] = {"both", "attributes", "description", "names"};
  return names[static_cast<std::size_t>(content)];
}

struct encode_settings {
  bank_content content = bank_content::both;
  std::size_t phrases = 0;      ///< the most attributes of a class; 0: all that it has
  bool roles = true;            ///< also encodes intrinsic and nuisance phrases where texts have them; not with content names
  bool from_intrinsic = false;  ///< what stands as intrinsic replaces attributes and description, as DVLA-RL++ takes them
};

/// A bank and what was not as it should be: one line a class and level that fell back to the class-name template.
struct encoded_bank {
  semantic_bank bank;
  std::vector<std::string> notes{};
};

namespace detail {

/// Collects texts, each once, and gives out their rows after they were encoded together.
template <text_encoder E>
class text_rows {
 public:
  explicit text_rows(E const& encoder) : encoder_(encoder) {}

  void add(std::string const& text) {
    if (index_.emplace(text, texts_.size()).second) texts_.push_back(text);
  }

  void encode(std::string const& source) {
    width_ = encoder_.width();
    rows_ = texts_.empty() ? std::vector<float>() : encoder_.encode(std::span<std::string const>(texts_));
    expect_rows(rows_, texts_, width_, source);
  }

  [[nodiscard]] std::span<float const> row(std::string const& text) const {
    return std::span<float const>(rows_).subspan(index_.at(text) * width_, width_);
  }

 private:
  E const& encoder_;
  std::vector<std::string> texts_;
  std::map<std::string, std::size_t> index_;
  std::size_t width_ = 0;
  std::vector<float> rows_;
};

/// The blocks of one entry in words.
class entry_blocks {
 public:
  entry_blocks(class_texts const& c, encode_settings const& settings, std::vector<std::string>& notes)
      : c_(c), settings_(settings), notes_(notes) {}

  [[nodiscard]] std::vector<bank_block> make() {
    auto const content = settings_.content;
    auto const name = class_template(c_.name);
    add(bank_role::name, bank_level::global, {{name, {}, "class name"}});
    if (content == bank_content::names) {
      add(bank_role::intrinsic, bank_level::local, {{name, {}, "class name"}});
      add(bank_role::intrinsic, bank_level::global, {{name, {}, "class name"}});
      return std::move(out_);
    }
    auto const attributes = content == bank_content::description ? std::vector<bank_phrase>{whole()} : phrases();
    add(bank_role::intrinsic, bank_level::local, attributes);
    if (content == bank_content::attributes)
      add(bank_role::intrinsic, bank_level::global, {{"", {}, "mean of the attributes"}});
    else
      add(bank_role::intrinsic, bank_level::global, {whole()});
    if (settings_.roles && c_.nuisance) add_nuisance();
    return std::move(out_);
  }

 private:
  void add(bank_role role, bank_level level, std::vector<bank_phrase> phrases) {
    if (!phrases.empty()) out_.push_back({c_.folder, c_.support, role, level, std::move(phrases), {}});
  }

  [[nodiscard]] std::string who() const {
    return c_.support.empty() ? concat("class '", c_.folder, "'") : concat("class '", c_.folder, "', image ", c_.support);
  }

  [[nodiscard]] std::vector<bank_phrase> phrases() {
    std::vector<bank_phrase> out;
    auto const add_phrase = [&](std::string const& attribute, std::string const& encoded, std::optional<double> score,
                                char const* origin) {
      if (settings_.phrases != 0 && out.size() == settings_.phrases) return;
      auto const found = screen_text(tidy_text(attribute), {200, 2000});  // length is the generator's and the encoder's matter
      if (found.ok())
        out.push_back({encoded, score, origin});
      else
        notes_.push_back(concat(who(), ": the attribute '", dvla::excerpt(tidy_text(attribute)), "' is left out: ", found.reason));
    };
    if (settings_.from_intrinsic && c_.intrinsic) {
      for (auto const& text : c_.intrinsic->local) add_phrase(text, text, {}, "intrinsic phrase");
    } else {
      auto const attributes = c_.selected();
      for (std::size_t i = 0; i < attributes.size(); ++i) {
        std::optional<double> score;
        if (c_.selection && std::isfinite(c_.selection->score(i))) score = c_.selection->score(i);
        add_phrase(attributes[i], attribute_template(c_.name, attributes[i]), score, "attribute");
      }
    }
    if (out.empty()) {
      notes_.push_back(concat(who(), " has no attributes", c_.failure.empty() ? "" : " (" + dvla::excerpt(c_.failure, 120) + ")",
                              ": its name stands for them"));
      out.push_back({class_template(c_.name), {}, "class name"});
    }
    return out;
  }

  [[nodiscard]] bank_phrase whole() {
    if (settings_.from_intrinsic && c_.intrinsic && !c_.intrinsic->global.empty())
      return {c_.intrinsic->global, {}, "intrinsic phrase"};
    if (c_.description == class_template(c_.name)) return {c_.description, {}, "class name"};
    if (c_.description.empty()) {
      notes_.push_back(concat(who(), " has no description: its name stands for it"));
      return {class_template(c_.name), {}, "class name"};
    }
    auto const described = describe_class(c_.name, std::string_view(c_.description), {400, 4000});
    if (described.fallback) notes_.push_back(concat(who(), ": its name stands for its description, which is ", described.reason));
    return {described.text, {}, described.fallback ? "class name" : "description"};
  }

  void add_nuisance() {
    std::vector<bank_phrase> local;
    for (auto const& text : c_.nuisance->local)
      if (screen_text(tidy_text(text), {200, 2000}).ok()) local.push_back({text, {}, "nuisance phrase"});
    add(bank_role::nuisance, bank_level::local, std::move(local));
    if (screen_text(tidy_text(c_.nuisance->global), {400, 4000}).ok())
      add(bank_role::nuisance, bank_level::global, {{c_.nuisance->global, {}, "nuisance phrase"}});
  }

  class_texts const& c_;
  encode_settings settings_;
  std::vector<std::string>& notes_;
  std::vector<bank_block> out_;
};

/// The mean of rows at unit length; the first row where they cancel.
[[nodiscard]] inline std::vector<float> unit_mean(std::span<float const> rows, std::size_t width) {
  std::vector<double> sum(width);
  for (std::size_t i = 0; i < rows.size(); ++i) sum[i % width] += static_cast<double>(rows[i]);
  double squares = 0;
  for (double const x : sum) squares += x * x;
  std::vector<float> out(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(width));
  if (squares > 1e-24)
    for (std::size_t i = 0; i < width; ++i) out[i] = static_cast<float>(sum[i] / std::sqrt(squares));
  return out;
}

}  // namespace detail

/// A bank of a file's texts: attributes as "A photo of a {class}, which has {attribute}", descriptions as they are, and for every
/// class its name's template. What is missing or no description of anything is replaced by that template and noted.
template <text_encoder E>
[[nodiscard]] encoded_bank encode_bank(text_bank const& texts, E const& encoder, encode_settings const& settings = {}) {
  encoded_bank out;
  auto& bank = out.bank;
  bank.source = texts.source;
  bank.encoder = encoder.identity();
  bank.width = encoder.width();
  bank.about["generator"] = texts.generator;  // one by one: clang 14 leaks a JSON that a list is assigned to in a template
  bank.about["content"] = to_string(settings.content);
  std::map<std::string, std::size_t> places;
  for (auto const& c : texts.entries) {
    if (places.emplace(c.folder, bank.classes.size()).second) bank.classes.push_back({c.folder, c.name});
    auto& story = bank.classes[places.at(c.folder)].story;
    if (c.support.empty())
      story.update(detail::to_json(c));
    else
      story["per_image"][c.support] = detail::to_json(c);
    for (auto& b : detail::entry_blocks(c, settings, out.notes).make()) bank.blocks.push_back(std::move(b));
  }
  detail::text_rows<E> rows(encoder);
  for (auto const& b : bank.blocks)
    for (auto const& p : b.phrases)
      if (!p.text.empty()) rows.add(p.text);
  rows.encode(texts.source);
  for (auto& b : bank.blocks)
    for (auto const& p : b.phrases) {
      if (p.text.empty()) {  // the mean of the block before it: the local one of the same owner
        b.rows = detail::unit_mean((&b - 1)->rows, bank.width);
        continue;
      }
      auto const row = rows.row(p.text);
      b.rows.insert(b.rows.end(), row.begin(), row.end());
    }
  detail::expect_sound(bank);
  return out;
}

/// A bank from any file: texts (.json), encoded with both levels, or vectors (.safetensors with its .json, .pth).
template <text_encoder E>
[[nodiscard]] semantic_bank read_bank(std::filesystem::path const& path, E const& encoder) {
  if (!holds_texts(path)) return read_vectors(path);
  auto bank = encode_bank(read_texts(path), encoder).bank;
  bank.hash = sha256_hex(concat(detail::hash_of(path), " ", bank.encoder));
  return bank;
}

}  // namespace dvla::inline DVLA_ABI
