# The library's targets: dvla::dvla is the core (standard library and xsimd); dvla::io and dvla::data add file formats and
# images. Also included by the installed package, so both find their dependencies in one way.
find_package(Threads REQUIRED)

# Debian's xsimd target asks for a library xtl that it does not find; only its include folder is wanted.
find_package(xsimd REQUIRED)
if(NOT TARGET dvla_xsimd)
  add_library(dvla_xsimd INTERFACE)
  set_target_properties(dvla_xsimd PROPERTIES EXPORT_NAME xsimd)
  if(NOT xsimd_INCLUDE_DIRS)
    get_target_property(xsimd_INCLUDE_DIRS xsimd INTERFACE_INCLUDE_DIRECTORIES)
  endif()
  target_include_directories(dvla_xsimd SYSTEM INTERFACE $<BUILD_INTERFACE:${xsimd_INCLUDE_DIRS}>)
endif()

add_library(dvla_dvla INTERFACE)
add_library(dvla::dvla ALIAS dvla_dvla)
set_target_properties(dvla_dvla PROPERTIES EXPORT_NAME dvla)
target_compile_features(dvla_dvla INTERFACE cxx_std_20)
target_include_directories(dvla_dvla INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(dvla_dvla INTERFACE dvla_xsimd Threads::Threads)

find_package(nlohmann_json QUIET)
find_package(ZLIB QUIET)
if(nlohmann_json_FOUND)
  add_library(dvla_io INTERFACE)
  add_library(dvla::io ALIAS dvla_io)
  set_target_properties(dvla_io PROPERTIES EXPORT_NAME io)
  target_link_libraries(dvla_io INTERFACE dvla_dvla nlohmann_json::nlohmann_json)
endif()

find_package(PNG QUIET)
find_path(TURBOJPEG_INCLUDE_DIR turbojpeg.h)
find_library(TURBOJPEG_LIBRARY turbojpeg)
if(PNG_FOUND AND TURBOJPEG_INCLUDE_DIR AND TURBOJPEG_LIBRARY)
  add_library(dvla_data INTERFACE)
  add_library(dvla::data ALIAS dvla_data)
  set_target_properties(dvla_data PROPERTIES EXPORT_NAME data)
  target_include_directories(dvla_data SYSTEM INTERFACE $<BUILD_INTERFACE:${TURBOJPEG_INCLUDE_DIR}>)
  target_link_libraries(dvla_data INTERFACE dvla_dvla PNG::PNG ${TURBOJPEG_LIBRARY})
endif()
