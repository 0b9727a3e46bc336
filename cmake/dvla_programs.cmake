# What every program of this project (tests, examples, benchmarks, the tool) is compiled with; users never see it.
function(dvla_program target)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Wall -Wextra -Wconversion>"
    "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Xcompiler -Wall,-Wextra>")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>")  # g++ 12 sees overlaps in a sum of strings that are not there
  endif()
  if(DVLA_WERROR)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Werror>" "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings>")
  endif()
  if(DVLA_NATIVE)
    # The same for the host's part of a .cu, or the two would not link (see DVLA_ABI).
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-march=native>" "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-march=native>")
  endif()
  if(DVLA_SANITIZE)
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-fsanitize=${DVLA_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all>")
    target_link_options(${target} PRIVATE -fsanitize=${DVLA_SANITIZE})
  endif()
endfunction()
