// HTTP over libcurl, for servers that are not trusted: no redirects, no other protocols, TLS always verified, bodies and time
// bounded.
#pragma once

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <dvla/core/config.hpp>
#include <dvla/core/error.hpp>

namespace dvla::inline DVLA_ABI {

/// How a call ended. Only `answered` has a status and a body.
enum class http_end {
  answered,
  unreachable,  ///< no such host, or nobody listens
  timed_out,
  broken,     ///< the connection was lost on the way
  too_large,  ///< the body went beyond the limit and was dropped
  untrusted,  ///< the certificate is not for this host or from an unknown authority
  unusable    ///< the address or the CA file cannot be used at all
};

struct http_response {
  http_end end = http_end::answered;
  long status = 0;
  std::string body{}, content_type{};
  std::optional<std::chrono::seconds> retry_after{};  ///< of the header, which may hold seconds or a date
  std::string problem{};                              ///< libcurl's words where there is no answer
  std::chrono::milliseconds elapsed{0};
};

struct http_options {
  std::string ca_file{};  ///< authorities to trust instead of the system's
  std::chrono::milliseconds connect_timeout{10'000};
  std::size_t max_body = std::size_t{8} << 20;
};

/// One connection that is kept alive from call to call. For one thread at a time.
class http_client {
 public:
  explicit http_client(http_options options) : options_(std::move(options)), easy_(nullptr, &curl_easy_cleanup) {
    static CURLcode const started = curl_global_init(CURL_GLOBAL_DEFAULT);
    expect(started == CURLE_OK, "libcurl does not start: ", curl_easy_strerror(started));
    easy_.reset(curl_easy_init());
    expect(easy_ != nullptr, "libcurl is out of memory");
  }

  /// Sends a body and waits for the answer, at most so long.
  [[nodiscard]] http_response post(std::string const& url, std::span<std::string const> headers, std::string_view body,
                                   std::chrono::milliseconds timeout) {
    curl_easy_reset(easy_.get());  // connections stay
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(CURLOPT_POSTFIELDS, body.data());
    return perform(url, headers, timeout);
  }

  [[nodiscard]] http_response get(std::string const& url, std::span<std::string const> headers, std::chrono::milliseconds timeout) {
    curl_easy_reset(easy_.get());
    return perform(url, headers, timeout);
  }

 private:
  struct sink {
    std::string body{};
    std::size_t limit = 0;
    bool over = false;
  };

  static std::size_t receive(char* data, std::size_t, std::size_t count, void* into) {
    auto& to = *static_cast<sink*>(into);
    if (count > to.limit - to.body.size()) {
      to.over = true;
      return 0;  // libcurl closes the connection
    }
    to.body.append(data, count);
    return count;
  }

  template <class Value>
  void set(CURLoption option, Value value) {
    CURLcode const code = curl_easy_setopt(easy_.get(), option, value);
    expect(code == CURLE_OK, "libcurl does not take an option (", static_cast<int>(option), "): ", curl_easy_strerror(code));
  }

  http_response perform(std::string const& url, std::span<std::string const> headers, std::chrono::milliseconds timeout) {
    sink into{{}, options_.max_body, false};
    std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)> list(nullptr, &curl_slist_free_all);
    auto const add = [&](char const* header) {
      curl_slist* const longer = curl_slist_append(list.get(), header);
      expect(longer != nullptr, "libcurl is out of memory");
      static_cast<void>(list.release());
      list.reset(longer);
    };
    for (auto const& header : headers) add(header.c_str());
    add("Expect:");  // or libcurl asks for leave, and waits, before a large body
    char words[CURL_ERROR_SIZE] = "";
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_HTTPHEADER, list.get());
    set(CURLOPT_ERRORBUFFER, words);
    set(CURLOPT_WRITEFUNCTION, &http_client::receive);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&into));
    set(CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(options_.max_body));
    set(CURLOPT_CONNECTTIMEOUT_MS,
        static_cast<long>(std::clamp(std::min(options_.connect_timeout, timeout).count(), 1L, 86'400'000L)));
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(std::clamp(timeout.count(), 1L, 86'400'000L)));
    restrict();
    CURLcode const code = curl_easy_perform(easy_.get());
    http_response response = describe(code, into);
    if (code != CURLE_OK) response.problem = *words != '\0' ? words : curl_easy_strerror(code);
    return response;
  }

  /// What no answer may make the client do.
  void restrict() {
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
#if LIBCURL_VERSION_NUM >= 0x075500
    set(CURLOPT_PROTOCOLS_STR, "http,https");
#else
    set(CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    set(CURLOPT_SSL_VERIFYPEER, 1L);
    set(CURLOPT_SSL_VERIFYHOST, 2L);
    if (!options_.ca_file.empty()) set(CURLOPT_CAINFO, options_.ca_file.c_str());
    set(CURLOPT_USERAGENT, "dvla/" DVLA_VERSION_STRING);
    // A server on this machine is never behind a proxy; for others the environment says.
    char const* const lower = std::getenv("no_proxy");
    char const* const upper = std::getenv("NO_PROXY");
    char const* const given = lower != nullptr ? lower : upper;
    std::string const direct =
        concat(given != nullptr ? given : "", given != nullptr && *given != '\0' ? "," : "", "localhost,127.0.0.1,::1");
    set(CURLOPT_NOPROXY, given != nullptr && std::string_view(given) == "*" ? "*" : direct.c_str());
  }

  http_response describe(CURLcode code, sink& into) {
    http_response out;
    curl_off_t microseconds = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_TOTAL_TIME_T, &microseconds);
    out.elapsed = std::chrono::milliseconds(microseconds / 1000);
    out.end = end_of(code, into.over);
    if (out.end != http_end::answered) return out;
    out.body = std::move(into.body);
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &out.status);
    char const* type = nullptr;
    curl_easy_getinfo(easy_.get(), CURLINFO_CONTENT_TYPE, &type);
    if (type != nullptr) out.content_type = type;
    curl_off_t seconds = 0;
    curl_easy_getinfo(easy_.get(), CURLINFO_RETRY_AFTER, &seconds);
    if (seconds > 0) out.retry_after = std::chrono::seconds(std::min<curl_off_t>(seconds, 1'000'000));
    return out;
  }

  static http_end end_of(CURLcode code, bool over) {
    if (over) return http_end::too_large;
    switch (code) {
      case CURLE_OK:
        return http_end::answered;
      case CURLE_FILESIZE_EXCEEDED:
        return http_end::too_large;
      case CURLE_OPERATION_TIMEDOUT:
        return http_end::timed_out;
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_COULDNT_CONNECT:
        return http_end::unreachable;
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_SSL_ISSUER_ERROR:
        return http_end::untrusted;
      case CURLE_URL_MALFORMAT:
      case CURLE_SSL_CACERT_BADFILE:
        return http_end::unusable;
      default:  // CURLE_UNSUPPORTED_PROTOCOL among them: what came is no HTTP
        return http_end::broken;
    }
  }

  http_options options_;
  std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> easy_;
};

}  // namespace dvla::inline DVLA_ABI
