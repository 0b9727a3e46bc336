# The library's targets: dvla::dvla is the core (standard library and xsimd); dvla::io adds file formats, dvla::data images,
# dvla::semantics the client of language models. Class vectors, encoders and recordings need dvla::io alone.
# A component whose dependencies are not there has no target.
include(GNUInstallDirs)
include(${CMAKE_CURRENT_LIST_DIR}/dvla_dependencies.cmake)

function(dvla_component name)
  add_library(dvla_${name} INTERFACE)
  add_library(dvla::${name} ALIAS dvla_${name})
  set_target_properties(dvla_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(dvla_${name} INTERFACE ${ARGN})
endfunction()

dvla_find_dependencies(core missing)
if(missing)
  message(FATAL_ERROR "dvla:${missing}")
endif()
find_package(Threads REQUIRED)
dvla_component(dvla dvla::xsimd Threads::Threads)
target_compile_features(dvla_dvla INTERFACE cxx_std_20)
target_include_directories(dvla_dvla INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)

dvla_find_dependencies(io missing)
if(missing)
  message(STATUS "dvla: without dvla::io:${missing}")
else()
  find_package(nlohmann_json REQUIRED)
  dvla_component(io dvla_dvla nlohmann_json::nlohmann_json)
endif()

dvla_find_dependencies(data missing)
if(missing)
  message(STATUS "dvla: without dvla::data:${missing}")
else()
  find_package(PNG REQUIRED)
  dvla_component(data dvla_dvla PNG::PNG dvla::turbojpeg)
endif()

dvla_find_dependencies(semantics missing)
if(NOT missing AND NOT TARGET dvla::io)
  set(missing " it needs dvla::io.")
endif()
if(missing)
  message(STATUS "dvla: without dvla::semantics, the client of language models:${missing}")
else()
  find_package(CURL 7.66 REQUIRED)
  dvla_component(semantics dvla_io CURL::libcurl)
endif()
