// What the tests of generators share: questions.
#pragma once

#include <string>

#include <dvla/semantics/generation.hpp>

#include "support/temporary_folder.hpp"

namespace dvla_test {

inline dvla::generation_request question(std::string const& folder, dvla::meaning_level level = dvla::meaning_level::attributes) {
  bool const low = level == dvla::meaning_level::attributes;
  nlohmann::json const text{{"type", "string"}};
  nlohmann::json const list{{"type", "array"}, {"items", text}};
  std::string const name = low ? "attributes" : "description";
  nlohmann::json const properties{{name, low ? list : text}};
  nlohmann::json const schema{
      {"type", "object"}, {"properties", properties}, {"required", nlohmann::json::array({name})}, {"additionalProperties", false}};
  return {level, folder, folder, "test-1", "What about the " + folder + "?", schema, {}};
}

}  // namespace dvla_test
