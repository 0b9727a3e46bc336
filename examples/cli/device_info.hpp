// What dvla info tells of the card.
#pragma once

#include <string>

namespace cli {

/// Name, architecture, memory and driver of card 0, and what of CUDA was compiled in, in lines for people.
[[nodiscard]] std::string describe_device();

}  // namespace cli
