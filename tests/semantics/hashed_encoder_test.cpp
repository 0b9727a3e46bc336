// The hashed text encoder: reference values of an independent implementation, and the order of similarities.
#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <dvla/semantics/hashed_encoder.hpp>

namespace {

dvla::hashed_encoder const encoder;

double cosine(std::string_view a, std::string_view b) {
  auto const x = encoder.encode(a), y = encoder.encode(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
  return sum;
}

void check_values(std::string_view text, std::vector<double> const& expected) {
  auto const got = encoder.encode(text);
  std::size_t const places[] = {0, 1, 100, 255, 511};
  for (std::size_t i = 0; i < 5; ++i) CHECK(std::abs(static_cast<double>(got[places[i]]) - expected[i]) <= 1e-8);
}

std::string message_of(std::string_view text) {
  try {
    (void)encoder.encode(text);
  } catch (dvla::error const& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("encodings equal an independent implementation") {
  check_values("Large striped red star",
               {-0.03437914011161201, 0.0032714503672374683, -0.047856606010185626, 0.011988440993386406, -0.09155612218391153});
  check_values(
      "a photo of a cr\xC3\xA8me br\xC3\xBBl\xC3\xA9"
      "e, \xE6\x98\x9F\xE5\xBD\xA2 and \xC3\x84"
      "B",
      {-0.03529828733447951, 0.015014653663134092, 0.04025134293095199, 0.03895561832082328, -0.05774861860689203});
  CHECK(std::abs(cosine("red star", "large red star") - 0.8137951968480085) <= 1e-6);
}

TEST_CASE("an encoding is a unit vector and the same each time") {
  for (auto const* text :
       {"x", "the", "A photo of a large striped red star, which has five points", "2001", "\xFF\x80 broken utf-8 \xC3"}) {
    CAPTURE(text);
    CHECK(encoder.encode(text).size() == dvla::hashed_encoder::dim);
    CHECK(std::abs(cosine(text, text) - 1) <= 1e-6);
    CHECK(encoder.encode(text) == encoder.encode(text));
  }
}

TEST_CASE("case and punctuation do not matter, the order of words a little") {
  CHECK(encoder.encode("Red, STAR!") == encoder.encode("red star"));
  CHECK(cosine("red star", "star red") > 0.7);
  CHECK(cosine("red star", "star red") < 0.95);
}

TEST_CASE("texts are the more similar the more they share") {
  CHECK(cosine("red star", "large red star") > cosine("red star", "red circle"));
  CHECK(cosine("red star", "red circle") > cosine("red star", "blue circle") + 0.25);
  CHECK(cosine("striped", "stripes") > cosine("striped", "checkered") + 0.2);
  CHECK(std::abs(cosine("red star", "blue circle")) < 0.15);
  CHECK(cosine("large striped red star", "small striped red star") > cosine("large striped red star", "small striped blue star"));
  CHECK(cosine("this is the star", "this is the ring") < cosine("red big star", "red big ring"));
}

TEST_CASE("a text without a word is refused") {
  CHECK(message_of("") == "hashed_encoder: the text '' holds no word to encode; give at least one letter or digit");
  CHECK(message_of(" \t\n").find("holds no word") != std::string::npos);
  CHECK(message_of("?!").find("the text '?!' holds no word") != std::string::npos);
}
