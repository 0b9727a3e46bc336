// dvla info and dvla convert: what is in a file of tensors, and such files in the safetensors format.
#pragma once

#include "options.hpp"

namespace cli {

/// Prints the program's version, instruction set and threads, a model's parameters and what a checkpoint says of itself.
void info(info_options const& options);

/// Reads .pth or .safetensors, takes wrapper prefixes off the names, writes safetensors; prints what was renamed or left out.
void convert(convert_options const& options);

}  // namespace cli
