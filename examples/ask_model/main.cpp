// Asks a language model what classes look like: both levels of meaning, from any chat-completions server. Writes a recording that
// read_bank and recorded_generator take, with how each answer came about.
//   ask_model URL MODEL CACHE FORM OPTIONS CLASS... > recording.json
// FORM: json_schema, json_object or plain, how replies are asked for at first; OPTIONS: JSON merged into each request's body.
#include <iostream>

#include <dvla/semantics/generator/cached_generator.hpp>
#include <dvla/semantics/generator/chat_generator.hpp>

namespace {

using nlohmann::json;

/// {"type": "object"} with one member and nothing else.
json reply_schema(std::string const& member, json const& of) {
  json const properties{{member, of}};
  return {{"type", "object"}, {"properties", properties}, {"required", json::array({member})}, {"additionalProperties", false}};
}

std::string plain(std::string name) {
  for (char& c : name) c = c == '_' ? ' ' : c;
  return name;
}

dvla::generation_request ask_attributes(std::string const& folder) {
  json const texts{{"type", "array"}, {"items", {{"type", "string"}}}};
  std::string const prompt = dvla::concat("What are the key distinguishing attributes of the ", plain(folder),
                                          " in a photo? List six concise phrases as JSON: {\"attributes\": [...]}.");
  return {dvla::meaning_level::attributes,   folder, plain(folder), "ask_model/attributes-1", prompt,
          reply_schema("attributes", texts), {}};
}

dvla::generation_request ask_description(std::string const& folder, json const& attributes) {
  std::string prompt = dvla::concat("Describe what the ", plain(folder),
                                    " looks like in one fluent, scientific sentence, as JSON: {\"description\": \"...\"}.");
  std::size_t const used = std::min<std::size_t>(attributes.size(), 3);
  for (std::size_t i = 0; i < used; ++i)
    prompt += dvla::concat(i == 0 ? " It has " : ", ", attributes[i].get<std::string>(), i + 1 == used ? "." : "");
  return {dvla::meaning_level::description,
          folder,
          plain(folder),
          "ask_model/description-1",
          prompt,
          reply_schema("description", {{"type", "string"}}),
          {}};
}

/// Asks, tells on standard error how it goes, and notes replies and failures.
template <class Generator>
void ask(Generator& source, std::vector<dvla::generation_request> const& requests, json& recording) {
  auto const results = source.generate(requests, [&](std::size_t i, dvla::generation_result const& result) {
    std::cerr << requests[i].folder << ": " << (result.ok() ? result.reply.dump() : result.failure) << '\n';
  });
  for (std::size_t i = 0; i < requests.size(); ++i) {
    std::string const level = requests[i].level == dvla::meaning_level::attributes ? "attributes" : "description";
    json& entry = recording["classes"][requests[i].folder];
    entry["name"] = requests[i].name;
    if (results[i].ok()) {
      entry[level] = results[i].reply[level];
    } else {
      recording["failures"].push_back(results[i].failure);
    }
    recording["provenance"].push_back({{"prompt", requests[i].prompt}, {"raw", results[i].raw}, {"how", results[i].provenance}});
  }
}

void run(std::vector<std::string> const& words) {
  dvla::chat_options options;
  options.base_url = words[0];
  options.model = words[1];
  options.rung = words[3] == "plain"         ? dvla::chat_rung::plain
                 : words[3] == "json_object" ? dvla::chat_rung::json_object
                                             : options.rung;
  options.extra_body = json::parse(words[4]);
  options.max_tokens = 192;
  options.parallel = 2;
  dvla::cached_generator source(dvla::chat_generator(options), {words[2]});
  json recording{
      {"generator", options.model}, {"classes", json::object()}, {"failures", json::array()}, {"provenance", json::array()}};
  std::vector<dvla::generation_request> requests;
  for (std::size_t i = 5; i < words.size(); ++i) requests.push_back(ask_attributes(words[i]));
  ask(source, requests, recording);
  requests.clear();
  for (auto const& [folder, entry] : recording["classes"].items())
    if (entry.contains("attributes")) requests.push_back(ask_description(folder, entry["attributes"]));
  ask(source, requests, recording);
  auto const used = source.source().used();
  recording["used"] = {
      {"requests", used.requests}, {"prompt_tokens", used.prompt_tokens}, {"completion_tokens", used.completion_tokens}};
  std::cout << recording.dump(1) << '\n';
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<std::string> const words(arguments + 1, arguments + count);
  if (words.size() < 6) {
    std::cerr << "ask_model URL MODEL CACHE FORM OPTIONS CLASS...\n";
    return 2;
  }
  try {
    run(words);
  } catch (std::exception const& problem) {
    std::cerr << problem.what() << '\n';
    return 1;
  }
}
