// Stands for what needs CUDA in a build without it.
#include "device_info.hpp"

std::string cli::describe_device() { return "no CUDA in this build; build dvla where nvcc is (DVLA_CUDA=ON) to use a card\n"; }
