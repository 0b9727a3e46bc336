// The address of a server, taken apart once.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <string>
#include <string_view>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// An http or https address of a chat-completions server, such as http://localhost:8000/v1.
struct base_url {
  std::string text;  ///< without a slash at the end
  std::string host;  ///< lower case, IPv6 in brackets
  bool https = false, loopback = false;
};

namespace detail {

[[nodiscard]] inline std::string url_part(CURLU* url, CURLUPart part) {
  char* value = nullptr;
  if (curl_url_get(url, part, &value, 0) != CURLUE_OK) return {};
  std::unique_ptr<char, decltype(&curl_free)> const owner(value, &curl_free);
  return value;
}

[[nodiscard]] inline bool is_loopback(std::string const& host) {
  return host == "localhost" || host == "[::1]" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos);
}

}  // namespace detail

/// Throws for what is no http or https address, and for one with a user, a password, a query or a fragment: it would end up in
/// messages, and a path is put behind it.
[[nodiscard]] inline base_url read_base_url(std::string text) {
  while (text.ends_with('/')) text.pop_back();
  std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> const url(curl_url(), &curl_url_cleanup);
  expect(url != nullptr, "libcurl is out of memory");
  bool const parsed = curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
  std::string const scheme = parsed ? detail::url_part(url.get(), CURLUPART_SCHEME) : "";
  constexpr std::string_view remedy = "; give one such as http://localhost:8000/v1";
  for (CURLUPart const part : {CURLUPART_USER, CURLUPART_PASSWORD, CURLUPART_QUERY, CURLUPART_FRAGMENT})
    expect(!parsed || detail::url_part(url.get(), part).empty(),
           "the server's address has a user, a password, a query or a fragment", remedy);
  expect(scheme == "http" || scheme == "https", "'", text, "' is no http or https address of a server", remedy);
  base_url out{std::move(text), detail::url_part(url.get(), CURLUPART_HOST), scheme == "https", false};
  for (char& c : out.host)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  out.loopback = detail::is_loopback(out.host);
  return out;
}

}  // namespace dvla::inline DVLA_ABI
