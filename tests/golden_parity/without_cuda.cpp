// Stands for the cases on a card in a build that has none.
#include "cases.hpp"

bool parity::cuda_is_there() { return false; }
bool parity::cuda_network(std::string const&, golden_file const& golden) { golden.refuse("this build has no CUDA"); }
bool parity::cuda_block(std::string const&, golden_file const& golden) { golden.refuse("this build has no CUDA"); }
