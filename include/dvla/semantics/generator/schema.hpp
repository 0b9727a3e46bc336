// Whether a reply satisfies a JSON schema: the part of the language that every server takes, whatever it promised to enforce.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>
#include <dvla/semantics/generator/text.hpp>

namespace dvla::inline DVLA_ABI {

namespace detail {

[[nodiscard]] inline bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n\f\v") == std::string_view::npos;
}

/// "an array", "a string": what a value is, for messages.
[[nodiscard]] inline std::string kind_of(nlohmann::json const& value) {
  std::string const name = value.type_name();
  return concat(name == "array" || name == "object" ? "an " : name == "null" ? "" : "a ", name);
}

[[nodiscard]] inline std::string object_problem(nlohmann::json const& value, nlohmann::json const& schema,
                                                std::string const& where);

/// The first way in which the value does not satisfy the schema, a sentence that begins with `where`; empty where it does.
[[nodiscard]] inline std::string schema_problem(nlohmann::json const& value, nlohmann::json const& schema,
                                                std::string const& where) {
  std::string const type =
      schema.is_object() && schema.contains("type") && schema["type"].is_string() ? schema["type"].get<std::string>() : "";
  if (type == "object") return object_problem(value, schema, where);
  if (type == "string") {
    if (!value.is_string()) return concat(where, " must be a string, it is ", kind_of(value));
    return is_blank(value.get_ref<std::string const&>()) ? concat(where, " must not be blank") : std::string{};
  }
  if (type == "array") {
    if (!value.is_array()) return concat(where, " must be an array, it is ", kind_of(value));
    if (value.empty()) return concat(where, " must not be empty");
    if (!schema.contains("items")) return {};
    for (std::size_t i = 0; i < value.size(); ++i)
      if (auto problem = schema_problem(value[i], schema["items"], concat(where, "[", i, "]")); !problem.empty()) return problem;
    return {};
  }
  return concat("the schema of ", where, " asks for the type '", type, "'; objects, arrays and strings are known");
}

[[nodiscard]] inline std::string object_problem(nlohmann::json const& value, nlohmann::json const& schema,
                                                std::string const& where) {
  if (!value.is_object()) return concat(where, " must be an object, it is ", kind_of(value));
  nlohmann::json const none = nlohmann::json::object();
  nlohmann::json const& properties =
      schema.contains("properties") && schema["properties"].is_object() ? schema["properties"] : none;
  if (schema.contains("required") && schema["required"].is_array())
    for (auto const& name : schema["required"])
      if (name.is_string() && !value.contains(name.get_ref<std::string const&>()))
        return concat(where, " lacks '", name.get_ref<std::string const&>(), "'");
  bool const closed = schema.contains("additionalProperties") && schema["additionalProperties"] == false;
  for (auto const& [name, member] : value.items()) {
    if (properties.contains(name)) {
      if (auto problem = schema_problem(member, properties[name], concat(where, ".", name)); !problem.empty()) return problem;
    } else if (closed) {
      return concat(where, " must not have '", excerpt(name, 80), "'");
    }
  }
  return {};
}

}  // namespace detail

/// Empty where the value satisfies the schema, otherwise a sentence about the first place where it does not. Known are the types
/// object (properties, required, additionalProperties: false), array (items) and string. Beyond JSON schema, an empty array and a
/// blank string are refused: they say nothing about a class, and a server that enforces a grammar may end a reply with them.
[[nodiscard]] inline std::string check_schema(nlohmann::json const& value, nlohmann::json const& schema) {
  return schema.is_null() ? std::string{} : detail::schema_problem(value, schema, "the reply");
}

}  // namespace dvla::inline DVLA_ABI
