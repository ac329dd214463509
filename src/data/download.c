#include "data/download.h"

#include "core/utf8.h"

#ifdef SLOPE_CURL

#    include <curl/curl.h>
#    include <stdlib.h>
#    include <string.h>

#    define CONNECT_SECONDS 10
#    define SLOW_SECONDS    30
#    define SLOW_BYTES      1000
#    define MOST_BYTES      ((size_t)256 << 20)
#    define MOST_REDIRECTS  5

typedef struct transfer {
    sl_context *ctx;
    uint8_t *bytes;
    size_t size, room;
    sl_status refused; /* why `store` ended the transfer */
} transfer;

static size_t store(char *bytes, size_t size, size_t count, void *data)
{
    transfer *t = data;
    const size_t n = size * count;
    if (n > MOST_BYTES - t->size) {
        t->refused = SL_IO;
        return 0;
    }
    if (t->size + n > t->room) {
        const size_t room = 2 * (t->size + n);
        uint8_t *more = realloc(t->bytes, room);
        if (!more) {
            t->refused = SL_MEMORY;
            return 0;
        }
        t->bytes = more;
        t->room = room;
    }
    if (n > 0) memcpy(t->bytes + t->size, bytes, n);
    t->size += n;
    return n;
}

static int watch(void *data, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now)
{
    (void)total, (void)now, (void)up_total, (void)up_now;
    return ((transfer *)data)->ctx->interrupted != 0; /* not 0 ends the transfer */
}

static void set_options(CURL *curl, transfer *t, const char *url, bool local, char text[CURL_ERROR_SIZE])
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
#    if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, local ? "http,https,file" : "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#    else
    const long web = CURLPROTO_HTTP | CURLPROTO_HTTPS;
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, local ? web | CURLPROTO_FILE : web);
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS, web);
#    endif
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "slope/" SLOPE_VERSION);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)MOST_REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long)SLOW_SECONDS);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, store);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
}

bool sl_download(sl_context *ctx, const char *url, bool local, uint8_t **bytes, size_t *size,
                 sl_problem *problem)
{
    char text[CURL_ERROR_SIZE] = "";
    const sl_shown shown = sl_show_path(url);
    transfer t = {.ctx = ctx};
    CURL *curl = curl_easy_init();
    if (!curl) return sl_problem_set(problem, SL_MEMORY, "%s: libcurl cannot start", shown.text);
    set_options(curl, &t, url, local, text);
    const CURLcode result = curl_easy_perform(curl);
    curl_easy_cleanup(curl);

    problem->code = SL_OK;
    if (ctx->interrupted)
        sl_problem_set(problem, SL_INTERRUPTED, "%s: the download was interrupted", shown.text);
    else if (t.refused == SL_MEMORY)
        sl_problem_set(problem, SL_MEMORY, "%s: out of memory after %zu bytes", shown.text, t.size);
    else if (t.refused)
        sl_problem_set(problem, SL_IO, "%s: more than %zu bytes arrive, which no file of a data set has",
                       shown.text, MOST_BYTES);
    else if (result != CURLE_OK)
        sl_problem_set(problem, SL_IO, "%s: %s", shown.text, text[0] ? text : curl_easy_strerror(result));
    else if (t.size == 0)
        sl_problem_set(problem, SL_IO, "%s: an empty file (0 bytes) arrived", shown.text);
    if (problem->code != SL_OK) {
        free(t.bytes);
        return false;
    }
    *bytes = t.bytes;
    *size = t.size;
    return true;
}

#else

bool sl_download(sl_context *ctx, const char *url, bool local, uint8_t **bytes, size_t *size,
                 sl_problem *problem)
{
    (void)ctx, (void)local, (void)bytes, (void)size;
    return sl_problem_set(problem, SL_UNSUPPORTED,
                          "%s: Slope was built without libcurl (Debian: libcurl4-openssl-dev)",
                          sl_show_path(url).text);
}

#endif
