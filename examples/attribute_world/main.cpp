// Draws the attribute world: a small image data set with names, attributes and descriptions, made in seconds, to try the
// few-shot learner on without a download.
#include <charconv>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <system_error>

#include <dvla/core/error.hpp>
#include <dvla/core/thread_pool.hpp>
#include <dvla/data/attribute_world.hpp>

namespace {

constexpr char help[] =
    "attribute_world OUT [options]\n"
    "Writes OUT/{base,val,novel}/<class>/NNN.png and OUT/semantics.json.\n"
    "  --image N      side of an image in pixels (32)\n"
    "  --per-class N  images a class (60)\n"
    "  --seed N       of the choice of classes and of every picture (1)\n"
    "  --base N       base classes (240)\n"
    "  --val N        validation classes (40)\n"
    "  --novel N      novel classes (80)\n"
    "  --threads N    0 takes what the machine offers (0)\n";

struct arguments {
  std::string out;
  dvla::attribute_world::options world;
  std::size_t threads = 0;
};

template <class Number>
bool read_option(std::string_view name, std::string_view option, char const* value, Number& into) {
  if (name != option) return false;
  dvla::expect(value != nullptr, "attribute_world: ", name, " needs a number after it");
  std::string_view const text(value);
  auto const [end, failed] = std::from_chars(text.data(), text.data() + text.size(), into);
  dvla::expect(failed == std::errc{} && end == text.data() + text.size(), "attribute_world: ", name, " is '", text,
               "'; give a whole number of at least 0");
  return true;
}

arguments parse(int count, char** words) {
  arguments parsed;
  for (int i = 1; i < count; ++i) {
    std::string_view const word = words[i];
    if (!word.starts_with("-")) {
      dvla::expect(parsed.out.empty(), "attribute_world: two folders given, ", parsed.out, " and ", word, "; give one");
      parsed.out = word;
      continue;
    }
    char const* const value = i + 1 < count ? words[i + 1] : nullptr;
    auto& world = parsed.world;
    bool const known = read_option(word, "--image", value, world.side) ||
                       read_option(word, "--per-class", value, world.per_class) || read_option(word, "--seed", value, world.seed) ||
                       read_option(word, "--base", value, world.base) || read_option(word, "--val", value, world.val) ||
                       read_option(word, "--novel", value, world.novel) || read_option(word, "--threads", value, parsed.threads);
    dvla::expect(known, "attribute_world: unknown option ", word, "; see attribute_world --help");
    ++i;
  }
  dvla::expect(!parsed.out.empty(), "attribute_world: no folder to write to; see attribute_world --help");
  return parsed;
}

}  // namespace

int main(int count, char** words) {
  for (int i = 1; i < count; ++i)
    if (std::string_view(words[i]) == "--help" || std::string_view(words[i]) == "-h") return std::fputs(help, stdout) < 0;
  try {
    arguments const given = parse(count, words);
    auto const world = dvla::attribute_world::make_world(given.world);
    dvla::thread_pool pool(given.threads);
    dvla::attribute_world::write_world(given.out, world, given.world, &pool);
    std::size_t const classes = world.base.size() + world.val.size() + world.novel.size();
    std::printf("%zu classes, %zu images of %zux%zu in %s\n", classes, classes * given.world.per_class, given.world.side,
                given.world.side, given.out.c_str());
  } catch (std::exception const& problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
