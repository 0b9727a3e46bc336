// dvla semantics generate: questions about classes, and what is taken from the answers.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <set>

#include <dvla/core/philox.hpp>
#include <dvla/semantics/bank.hpp>
#include <dvla/semantics/class_texts.hpp>
#include <dvla/semantics/description.hpp>

#include "class_splits.hpp"
#include "console.hpp"
#include "language_model.hpp"
#include "run_support.hpp"

namespace cli {
namespace {

using dvla::class_texts;
using dvla::generation_request;
using dvla::generation_result;

/// Folders of a data set's classes with their images' paths beneath the root, in the order of the folders.
using class_images = std::map<std::string, std::vector<std::string>>;

void add_classes(class_images& to, dvla::image_folder const& folder, std::string const& prefix) {
  for (std::size_t label = 0; label < folder.classes.size(); ++label) {
    auto const& name = folder.classes[label];
    dvla::expect(dvla::is_utf8(name), prefix, name, ": the folder's name is not UTF-8, and files of texts are; rename it");
    dvla::expect(!to.contains(name), "class '", name, "' is in more than one split; give one --split at a time");
    for (auto const& image : folder.images_of(label))
      to[name].push_back(dvla::concat(prefix, name, "/", image.file.filename().string()));
  }
}

class_images find_classes(generate_options const& o) {
  class_images out;
  bool any = false;
  for (std::string const split : {"base", "val", "novel"}) {
    bool const wanted = o.splits.empty() ? std::filesystem::is_directory(std::filesystem::path(o.data) / split)
                                         : std::find(o.splits.begin(), o.splits.end(), split) != o.splits.end();
    if (wanted) add_classes(out, dvla::open_split(o.data, split), split + "/");
    any |= wanted;
  }
  if (!any) add_classes(out, dvla::open_image_folder(o.data), "");
  return out;
}

/// The images of a class that are shown: drawn by seed and class alone, in the order of their names.
std::vector<std::string> draw_images(std::vector<std::string> const& all, std::string const& folder, generate_options const& o) {
  std::uint32_t where = 2166136261u;
  for (char const c : folder) where = (where ^ static_cast<unsigned char>(c)) * 16777619u;
  dvla::random_stream stream(o.seed, dvla::draw::support, where, 0);
  std::vector<std::string> left = all;
  std::size_t const count = std::min(o.images, left.size());
  for (std::size_t i = 0; i < count; ++i) std::swap(left[i], left[i + stream.below(static_cast<std::uint32_t>(left.size() - i))]);
  left.resize(count);
  std::sort(left.begin(), left.end());
  return left;
}

std::map<std::string, std::string> names_from(std::string const& file) {
  if (file.empty()) return {};
  try {
    return dvla::parse_bounded(file, dvla::read_text(file)).get<std::map<std::string, std::string>>();
  } catch (nlohmann::json::exception const& problem) {
    dvla::fail(file, " holds no names: ", problem.what(), "; expected {folder: name, ...}");
  }
}

/// Throws for names of folders that are no classes of the data set, all told: most are misspelt. Those of splits that are not asked about
/// may be there.
void expect_folders(std::map<std::string, std::string> const& names, generate_options const& o) {
  if (names.empty()) return;
  std::set<std::string> folders;
  for (auto const& [split, classes] : splits_of(o.data)) folders.insert(classes.begin(), classes.end());
  std::vector<std::string> unknown;
  for (auto const& [folder, name] : names)
    if (!folders.contains(folder)) unknown.push_back(folder);
  dvla::expect(unknown.empty(), o.names, " has names of ", unknown.size(), " folder", unknown.size() == 1 ? "" : "s", " that ", o.data,
               " does not have: ", dvla::detail::list_of(unknown), "; spell them as the folders are, or leave them out");
}

/// Requests and the entries that their answers go to.
struct job {
  dvla::text_bank bank{};
  std::vector<generation_request> requests{};
  std::vector<std::size_t> entries{};

  void ask(std::size_t entry, generation_request request) {
    requests.push_back(std::move(request));
    entries.push_back(entry);
  }
};

/// One question a class, or one an image beside an entry for the class that collects them.
job ask_attributes(generate_options const& o) {
  dvla::expect(!o.data.empty(), "--data is missing; give the folder of images");
  dvla::expect(o.texts.empty(), "--texts is for --level description; candidate attributes are asked for from images");
  dvla::expect(!o.per_image || o.images > 0, "--per-image needs images; give --images 1 or more");
  job out;
  auto const names = names_from(o.names);
  expect_folders(names, o);
  for (auto const& [folder, images] : find_classes(o)) {
    class_texts c;
    c.folder = folder;
    auto const named = names.find(folder);
    c.name = named == names.end() ? dvla::plain_name(folder) : named->second;
    c.supports = draw_images(images, folder, o);
    auto const paths = [&](std::vector<std::string> const& ids) {
      std::vector<std::filesystem::path> files;
      for (auto const& id : ids) files.push_back(std::filesystem::path(o.data) / id);
      return files;
    };
    out.bank.entries.push_back(c);
    if (!o.per_image) out.ask(out.bank.entries.size() - 1, dvla::attributes_request(folder, c.name, paths(c.supports), o.most));
    for (auto const& id : o.per_image ? c.supports : std::vector<std::string>()) {
      class_texts image = c;
      image.support = id;
      image.supports = {id};
      out.bank.entries.push_back(image);
      out.ask(out.bank.entries.size() - 1, dvla::attributes_request(folder, c.name, paths({id}), o.most));
    }
  }
  return out;
}

/// One question an entry that has attributes; the others keep their class-name template.
job ask_descriptions(generate_options const& o) {
  dvla::expect(o.names.empty(), "--names is for --level attributes; texts hold the names of their classes");
  dvla::expect(!o.texts.empty(), "--level description needs --texts FILE, which generate and select write");
  job out{dvla::read_texts(o.texts)};
  for (std::size_t i = 0; i < out.bank.entries.size(); ++i) {
    auto& c = out.bank.entries[i];
    auto const attributes = c.selected();
    if (!attributes.empty())
      out.ask(i, dvla::description_request(c.folder, c.name, attributes));
    else
      c.description = dvla::class_template(c.name), c.description_note = "class name: there are no attributes to describe";
  }
  return out;
}

void take(class_texts& c, generation_request const& request, generation_result const& result) {
  bool const attributes = request.level == dvla::meaning_level::attributes;
  auto& kept = c.provenance[attributes ? "attributes" : "description"];
  kept = {{"prompt", request.prompt_id}, {"answer", result.provenance}};
  for (char const* passing : {"cached", "latency_ms"})  // the same answers make the same file
    if (kept["answer"].is_object()) kept["answer"].erase(passing);
  if (attributes) {
    auto found = dvla::take_attributes(result);
    c.attributes = std::move(found.attributes);
    c.rejected = std::move(found.rejected);
    c.failure = std::move(found.failure);
    return;
  }
  auto const described = dvla::describe_class(c.name, result);
  c.description = described.text;
  c.description_note = described.reason;
  if (!described.rejected.empty()) kept["rejected"] = described.rejected;
}

/// Where every image was asked about by itself, the class has the candidates of all of them.
void collect_images(dvla::text_bank& bank) {
  class_texts* whole = nullptr;
  for (auto& c : bank.entries) {
    if (c.support.empty()) {
      whole = &c;
      continue;
    }
    for (auto const& a : c.attributes)
      if (std::find(whole->attributes.begin(), whole->attributes.end(), a) == whole->attributes.end())
        whole->attributes.push_back(a);
  }
  for (auto& c : bank.entries)
    if (c.support.empty() && c.attributes.empty() && c.failure.empty()) c.failure = "no image had attributes";
}

/// The first Ctrl-C lets the requests under way end, since they are paid for; the next one ends the program.
void stop_gently(int) {
  stop_requested = 1;
  constexpr std::string_view text = "\nstopping when what is under way has ended; once more stops at once\n";
  [[maybe_unused]] auto const written = ::write(STDERR_FILENO, text.data(), text.size());
}

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = stop_gently;
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

/// Asks, shows how far it is, and tells which entries got no answer; those that were not asked keep the reason.
void ask(job& work, generate_options const& o) {
  progress_line line;
  std::size_t done = 0;
  std::vector<bool> answered(work.requests.size());
  auto const write = [&] {
    if (o.per_image && o.level == "attributes") collect_images(work.bank);
    dvla::write_texts(o.out, work.bank);
  };
  auto const keep = [&](std::string const& why) {
    if (done == 0 || !o.cache.empty()) return;  // a cache has the answers: the same command goes on
    for (std::size_t i = 0; i < work.requests.size(); ++i)
      if (!answered[i]) take(work.bank.entries[work.entries[i]], work.requests[i], {{}, dvla::concat("not asked: ", why), {}, {}});
    write();
    line.note(dvla::concat("the ", done, " answers before that are in ", o.out));
  };
  auto source = open_generator(o);
  watch_interrupts();
  try {
    auto const results = source.generate(work.requests, [&](std::size_t i, generation_result const& result) {
      take(work.bank.entries[work.entries[i]], work.requests[i], result);
      answered[i] = true;
      double const fraction = static_cast<double>(++done) / static_cast<double>(work.requests.size());
      if (line.due(fraction)) line.show(fraction, dvla::concat(done, " of ", work.requests.size(), " answers"));
      if (stop_requested && done < work.requests.size()) throw interrupted{"it was stopped"};
    });
    for (std::size_t i = 0; i < results.size(); ++i)
      if (!answered[i]) take(work.bank.entries[work.entries[i]], work.requests[i], results[i]);
  } catch (dvla::error const& problem) {
    keep(problem.what());
    throw;
  } catch (interrupted const& stopped) {
    keep(stopped.message);
    throw interrupted{dvla::concat("stopped after ", done, " of ", work.requests.size(), " answers",
                                   o.cache.empty() ? "; --cache lets the same command go on"
                                   : o.refresh     ? "; without --refresh the same command asks for what is not kept"
                                                   : "; the same command goes on")};
  }
  auto& by = work.bank.generator;  // what stood there before is kept beside the levels
  if (!by.is_null() && !(by.is_object() && by.contains("attributes"))) by = {{"before", by}};
  by[o.level] = {{"identity", source.identity()}, {"seed", o.seed}};
  write();
}

void report(job const& work, generate_options const& o) {
  std::vector<std::string> failed;
  std::size_t rejected = 0;
  for (auto const& c : work.bank.entries) {
    rejected += c.rejected.size();
    bool const description = o.level == "description";
    bool const template_only = description && c.description == dvla::class_template(c.name);
    if (description ? template_only : !c.failure.empty())
      failed.push_back(dvla::concat(c.folder, c.support.empty() ? "" : " (" + c.support + ")", ": ",
                                    description ? c.description_note : c.failure));
  }
  std::printf("%s: %zu answers asked for, %zu texts in them not taken, %zu classes or images without\n", o.out.c_str(),
              work.requests.size(), rejected, failed.size());
  if (failed.empty()) return;
  std::string text = dvla::concat(failed.size(), " without ", o.level == "description" ? "description" : "attributes",
                                  "; the class's name stands for them. Ask again with the same command (with --refresh or another\n"
                                  "--seed, kept answers are asked for anew), or go on:");
  for (auto const& f : failed) text += "\n  " + f;
  throw incomplete{std::move(text)};
}

}  // namespace

void semantics_generate(generate_options const& o) {
  auto work = o.level == "attributes" ? ask_attributes(o) : ask_descriptions(o);
  if (o.dry_run) {
    std::printf("%s\n", plan_of(o, work.requests).dump(1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    return;
  }
  dvla::expect(!o.out.empty(), "--out is missing; give the file of texts to write");
  { dvla::atomic_file const trial(o.out); }  // before anything is paid for
  ask(work, o);
  report(work, o);
}

}  // namespace cli
