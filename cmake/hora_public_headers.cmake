# What is installed, and what consumers may include. A header is public when it stands here.
set(HORA_PUBLIC_HEADERS
  ${PROJECT_SOURCE_DIR}/include/hora/export.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/hora.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/options.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/rendezvous.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/sampler.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/status.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/types.hpp
  ${PROJECT_SOURCE_DIR}/include/hora/view.hpp)
