# Installs the library, its headers, the command, and what other projects find them by: a CMake package and slope.pc.
include(CMakePackageConfigHelpers)

if(SLOPE_SANITIZE OR SLOPE_FUZZ OR SLOPE_SIMT)
  return() # such a build is not for others
endif()
install(TARGETS slope EXPORT slope-targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/slope DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN "*.def")

if(TARGET slope_command)
  file(RELATIVE_PATH library_from_command ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_target_properties(slope_command PROPERTIES INSTALL_RPATH "$ORIGIN/${library_from_command}")
  install(TARGETS slope_command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/docs/slope.1)
  install(FILES docs/slope.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples FILES_MATCHING PATTERN "*.c" PATTERN "*.cpp")

# find_package(slope), target slope::slope
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/slope)
install(EXPORT slope-targets NAMESPACE slope:: DESTINATION ${package})
configure_package_config_file(cmake/slope-config.cmake.in slope-config.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(slope-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/slope-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/slope-config-version.cmake
  DESTINATION ${package})

# pkg-config slope; what a static library needs besides is asked for with --static, or always where there is no other.
set(PC_PRIVATE "-lcjson -lm -pthread")
if(SLOPE_CUDA)
  string(APPEND PC_PRIVATE " -L${CUDAToolkit_LIBRARY_DIR} -lcublas -lcublasLt -lcudart_static -ldl -lrt -lstdc++")
endif()
set(PC_REQUIRES "")
if(ZLIB_FOUND)
  list(APPEND PC_REQUIRES zlib)
endif()
if(CURL_FOUND)
  list(APPEND PC_REQUIRES libcurl)
endif()
list(JOIN PC_REQUIRES ", " PC_REQUIRES)
if(BUILD_SHARED_LIBS)
  set(PC_LIBS "")
  set(PC_FIELDS "Requires.private: ${PC_REQUIRES}\nLibs.private: ${PC_PRIVATE}")
else()
  set(PC_LIBS " ${PC_PRIVATE}")
  set(PC_FIELDS "Requires: ${PC_REQUIRES}")
endif()
# Relative to the file, so that the installed tree may be moved.
file(RELATIVE_PATH PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/slope.pc.in slope.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/slope.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
