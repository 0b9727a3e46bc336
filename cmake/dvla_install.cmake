# Installs the headers and the package files; everything is text and the same on every architecture.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/dvla)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/dvla DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
  FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")

# One file of targets a component, so that the package offers each where its own dependencies are found.
foreach(name IN ITEMS dvla io data semantics cuda nccl)
  if(TARGET dvla_${name})
    install(TARGETS dvla_${name} EXPORT dvla-${name})
    install(EXPORT dvla-${name} NAMESPACE dvla:: FILE dvla-${name}-targets.cmake DESTINATION ${package_dir} COMPONENT development)
  endif()
endforeach()

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/dvla-config.cmake.in ${PROJECT_BINARY_DIR}/dvla-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
# Before 1.0 a minor release may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dvla-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${PROJECT_BINARY_DIR}/dvla-config.cmake ${PROJECT_BINARY_DIR}/dvla-config-version.cmake
  ${CMAKE_CURRENT_LIST_DIR}/dvla_dependencies.cmake DESTINATION ${package_dir} COMPONENT development)
