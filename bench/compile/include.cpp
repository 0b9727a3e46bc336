// What the header alone costs.
#include <dvla/dvla.hpp>
