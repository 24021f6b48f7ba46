# libhora.so out of the modules, and what `make install` installs: headers, library, tool, CMake package, pkg-config.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
include(hora_public_headers)

add_library(hora SHARED)
add_library(hora::hora ALIAS hora)
set(hora_map ${PROJECT_SOURCE_DIR}/cmake/hora.map)
target_sources(hora PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${HORA_PUBLIC_HEADERS})
# Two modules whole, because nobody inside calls what they export; what they need of the others comes with them.
target_sources(hora PRIVATE $<TARGET_OBJECTS:hora_engine> $<TARGET_OBJECTS:hora_base>)
target_link_libraries(hora PRIVATE hora_engine hora_base)
target_link_options(hora PRIVATE -Wl,--version-script=${hora_map} -Wl,--exclude-libs,ALL -Wl,-Bsymbolic-functions)
if(NOT HORA_SANITIZE)
  target_link_options(hora PRIVATE -Wl,--no-undefined)
endif()
set_target_properties(hora PROPERTIES
  LINK_DEPENDS ${hora_map}
  LINKER_LANGUAGE CXX
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})  # before 1.0 a minor version may change the interface
target_compile_features(hora INTERFACE cxx_std_20)

install(TARGETS hora EXPORT hora_targets FILE_SET HEADERS)
install(TARGETS hora_tool EXPORT hora_targets)
set(hora_package ${CMAKE_INSTALL_LIBDIR}/cmake/hora)
install(EXPORT hora_targets NAMESPACE hora:: DESTINATION ${hora_package})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/hora-config.cmake.in ${PROJECT_BINARY_DIR}/hora-config.cmake
  INSTALL_DESTINATION ${hora_package} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/hora-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/hora-config.cmake ${PROJECT_BINARY_DIR}/hora-config-version.cmake
  DESTINATION ${hora_package})
file(RELATIVE_PATH hora_prefix_from_pkgconfig ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/hora.pc.in ${PROJECT_BINARY_DIR}/hora.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/hora.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
