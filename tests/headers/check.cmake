# Run by ctest: cmake -DHEADER=<file> -DCOMPILERS=<list> -DFLAGS=<list> -P check.cmake
# The header must compile alone, without a warning, with every compiler.
cmake_minimum_required(VERSION 3.23)
foreach(compiler IN LISTS COMPILERS)
  execute_process(COMMAND ${compiler} -std=c++20 -fsyntax-only -Wall -Wextra -Wconversion -Werror ${FLAGS} -include ${HEADER} -x c++ /dev/null
    RESULT_VARIABLE failed ERROR_VARIABLE output)
  if(failed)
    message(FATAL_ERROR "${compiler}: ${HEADER} does not compile alone:\n${output}")
  endif()
endforeach()
