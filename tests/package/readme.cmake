# Run by ctest: cmake -DSOURCE=<this project> -P readme.cmake
# The program that README.md shows is examples/embed/main.cpp, to the letter.
cmake_minimum_required(VERSION 3.23)
file(READ ${SOURCE}/README.md readme)
file(READ ${SOURCE}/examples/embed/main.cpp program)
string(FIND "${readme}" "```cpp\n${program}```\n" found)
if(found EQUAL -1)
  message(FATAL_ERROR "README.md does not show examples/embed/main.cpp as it is; copy the file into the block marked cpp")
endif()
