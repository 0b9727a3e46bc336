// The CUDA device in a file that nvcc does not compile.
// message: dvla/cuda.hpp is for CUDA sources: name the file .cu and compile it with nvcc, or include dvla/dvla.hpp for the CPU
#if WRONG
#include <dvla/cuda.hpp>
#else
#include <dvla/dvla.hpp>
#endif

int main() {}
