// All augmentations. Each is a pair: a draw_... function that turns settings and a random_stream into a small value, and an
// apply(value, pixels) that uses no randomness.
#pragma once

#include <dvla/data/augment/colour.hpp>
#include <dvla/data/augment/erasing.hpp>
#include <dvla/data/augment/geometry.hpp>
#include <dvla/data/augment/mix.hpp>
#include <dvla/data/augment/normalise.hpp>
#include <dvla/data/augment/rand_augment.hpp>
