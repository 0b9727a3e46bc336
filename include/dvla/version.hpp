// The one place that holds the version; CMake reads it from here.
#pragma once

#define DVLA_VERSION 100  // major * 10000 + minor * 100 + patch
#define DVLA_VERSION_STRING "0.1.0"
