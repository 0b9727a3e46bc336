// dvla semantics: meanings of classes, from images to a bank.
#pragma once

#include <CLI/CLI.hpp>

#include "semantics_options.hpp"

namespace cli {

/// Adds `semantics` and its commands to the tool.
void add_semantics(CLI::App& tool, semantics_options& options);

/// Runs the command that was given.
void run_semantics(CLI::App const& tool, semantics_options const& options);

}  // namespace cli
