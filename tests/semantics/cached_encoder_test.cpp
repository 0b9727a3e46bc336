// Vectors of texts kept on disk: by one encoder and the next, by several processes, and what is said of a broken cache.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iterator>

#include <dvla/semantics/cached_encoder.hpp>
#include <dvla/semantics/hashed_encoder.hpp>

#include "io/io_support.hpp"
#include "support/tensors.hpp"

namespace {

namespace fs = std::filesystem;
using dvla_test::scratch_folder;

}  // namespace

TEST_CASE("A cache encodes a text once, for itself, for the next and for other processes") {
  scratch_folder const folder;
  dvla::hashed_encoder const hashed;
  std::vector<std::string> const words{"one", "two", "one", "three words here"};
  auto const expected = hashed.encode(words);
  {
    dvla::cached_encoder const cache(hashed, folder / "cache");
    CHECK(cache.encode(words) == expected);
    CHECK(cache.encoded() == 3);
    CHECK(cache.encode(words) == expected);
    CHECK(cache.encoded() == 3);
    CHECK(cache.identity() == hashed.identity());
  }
  dvla::cached_encoder const again(hashed, folder / "cache");
  CHECK(again.encode(words) == expected);
  CHECK(again.encoded() == 0);
  std::vector<std::string> const more{"four", "two"};
  dvla::cached_encoder const other(hashed, folder / "cache");
  CHECK(other.encode(more) == hashed.encode(more));
  CHECK(other.encoded() == 1);
  CHECK(again.encode(more) == hashed.encode(more));  // reads what the other one wrote
  CHECK(again.encoded() == 0);
}

TEST_CASE("Quick calls share a file of the cache; what waits is written at the end, and at once where no pause is asked for") {
  scratch_folder const folder;
  dvla::hashed_encoder const hashed;
  auto const files = [&](fs::path const& of) { return std::distance(fs::recursive_directory_iterator(of), {}) - 1; };  // less a folder
  auto const word = [](int i) { return std::vector<std::string>{dvla::concat("word ", i)}; };
  {
    dvla::cached_encoder const cache(hashed, folder / "cache");
    for (int i = 0; i < 200; ++i) CHECK(cache.encode(word(i)) == hashed.encode(word(i)));
    CHECK(files(folder / "cache") < 100);  // one, and one more every two seconds
  }
  dvla::cached_encoder const again(hashed, folder / "cache");
  for (int i = 0; i < 200; ++i) CHECK(again.encode(word(i)) == hashed.encode(word(i)));
  CHECK(again.encoded() == 0);
  dvla::vector_cache hasty(folder / "hasty", "some encoder", 1, std::chrono::milliseconds(0));
  float const row = 1;
  for (int i = 0; i < 3; ++i) hasty.add(std::vector{dvla::vector_cache::key_of(word(i)[0])}, std::span(&row, 1));
  CHECK(files(folder / "hasty") == 3);
}

TEST_CASE("What a cache cannot write at its end costs nothing but time") {
  scratch_folder const folder;
  float const row = 1;
  {
    dvla::vector_cache cache(folder / "cache", "some encoder", 1, std::chrono::hours(1));
    cache.add(std::vector{dvla::vector_cache::key_of("a")}, std::span(&row, 1));
    cache.add(std::vector{dvla::vector_cache::key_of("b")}, std::span(&row, 1));
    fs::remove_all(folder / "cache");
    CHECK(contains(message_of([&] { cache.write(); }), "its folder must exist and be writable"));
    CHECK(cache.contains(dvla::vector_cache::key_of("b")));
  }
  dvla::vector_cache const again(folder / "cache", "some encoder", 1);
  CHECK_FALSE(again.contains(dvla::vector_cache::key_of("b")));
}

TEST_CASE("Two processes fill one cache at once") {
  scratch_folder const folder;
  dvla::hashed_encoder const hashed;
  auto const fill = [&] {
    dvla::cached_encoder const cache(hashed, folder / "cache");
    bool equal = true;
    for (int i = 0; i < 40; ++i) {
      std::vector<std::string> const words{dvla::concat("word ", i), dvla::concat("other ", i % 7)};
      equal = equal && cache.encode(words) == hashed.encode(words);
    }
    return equal;
  };
  ::pid_t const child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    bool equal = false;
    try {
      equal = fill();
    } catch (dvla::error const&) {
    }
    ::_exit(equal ? 0 : 1);
  }
  CHECK(fill());
  int status = 1;
  CHECK(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  dvla::cached_encoder const cache(hashed, folder / "cache");
  std::vector<std::string> const words{"word 3", "other 2", "word 39"};
  CHECK(cache.encode(words) == hashed.encode(words));
  CHECK(cache.encoded() == 0);
}

TEST_CASE("A cache's damaged or foreign file is named") {
  scratch_folder const folder;
  dvla::hashed_encoder const hashed;
  auto const cache_folder = (folder / "cache") / dvla::sha256_hex(hashed.identity()).substr(0, 16);
  fs::create_directories(cache_folder);
  dvla::safetensors_writer writer;
  std::uint8_t const key[32] = {};
  writer.add("keys", {1, 32}, std::span<std::uint8_t const>(key));
  std::vector<float> const row(512);
  writer.add("vectors", {1, 512}, std::span<float const>(row));
  writer.metadata("encoder", "another");
  writer.write(cache_folder / "a.safetensors");
  CHECK(contains(message_of([&] { dvla::cached_encoder(hashed, folder / "cache"); }),
                 "is no cache of the encoder 'hashed n-grams 1'; delete"));
  fs::resize_file(cache_folder / "a.safetensors", 20);
  CHECK(contains(message_of([&] { dvla::cached_encoder(hashed, folder / "cache"); }), "belongs to a cache of vectors, delete it"));
}
