# Writes OUTPUT, which defines data::source_fingerprint(): the version and a hash of the SOURCES. A script of the build, so that it is made again
# when one of them changes.
set(_hashes "")
foreach(_source ${SOURCES})
  file(SHA256 ${_source} _hash)
  string(APPEND _hashes "${_hash}")
endforeach()
string(SHA256 _hash "${_hashes}")
string(SUBSTRING ${_hash} 0 16 _hash)
file(WRITE ${OUTPUT} "#include \"data/source_fingerprint.h\"

namespace dsft::data {

const char* source_fingerprint() {
  return \"${VERSION} ${_hash}\";
}

}  // namespace dsft::data
")
