/* What the tests of safetensors files share: a folder for the files of one test, and a sample file. */
#ifndef TESTS_SAFETENSORS_CASE_H
#define TESTS_SAFETENSORS_CASE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/context.h"
#include "data/safetensors.h"

#define CONTEXT(name) struct sl_context name = {.owned = {.previous = &name.owned, .next = &name.owned}}

/* --- a folder for the files of one test --- */

static char folder[64];

static inline const char *in_folder(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/slope-safetensors-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* Number of entries in the folder; a temporary file that was left behind shows up here. */
static inline int entries(void)
{
    char command[128];
    int n = -1;
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", folder);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &n), 1);
    pclose(pipe);
    return n;
}

static inline void store(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static inline size_t load(const char *path, char *bytes, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, room, file);
    assert_int_equal(fclose(file), 0);
    return n;
}

static inline void assert_says(const struct sl_context *ctx, sl_status code, const char *words)
{
    const char *text = sl_error(ctx);
    assert_non_null(text);
    if (!strstr(text, words)) fail_msg("'%s' does not say '%s'", text, words);
    if (sl_error_code(ctx) != code) fail_msg("'%s' has code %d, not %d", text, sl_error_code(ctx), code);
}

/* --- the sample --- */

enum { FLOATS = 15 };
static const float floats[FLOATS] = {0,         -0.0f,   1.5f,     -2.25f, INFINITY, -INFINITY, NAN, 1e-45f,
                                     -1.2e-38f, 3.4e38f, 1.0f / 3, 7,      8,        9,         10};
static const double doubles[2] = {1.0 / 3, -1e300};
static const int32_t ints[6] = {0, -1, INT32_MAX, INT32_MIN, 5, 6};
static const int64_t longs[2] = {INT64_MIN, INT64_MAX};
static const uint8_t bytes3[3] = {0, 128, 255};

static const sl_file_tensor sample[] = {
    {"dense/weight", SL_FILE_F32, {2, {3, 5}}, floats},
    {"bytes", SL_FILE_U8, {1, {3}}, bytes3}, /* what follows lies askew in the file */
    {"doubles", SL_FILE_F64, {1, {2}}, doubles},
    {"ints", SL_FILE_I32, {4, {1, 2, 3, 1}}, ints},
    {"longs", SL_FILE_I64, {2, {2, 1}}, longs},
    {"scalar", SL_FILE_F32, {0, {0}}, floats + 2},
    {"empty", SL_FILE_F32, {3, {4, 0, 2}}, NULL},
    {"na\"me\\ \n\xC3\xA9\xF0\x9F\x98\x80", SL_FILE_I32, {1, {1}}, ints + 2},
    {"", SL_FILE_U8, {0, {0}}, bytes3 + 1},
};
enum { SAMPLE = sizeof sample / sizeof *sample };

static const char *const sample_metadata[] = {
    "model", "dense128 act dense10", "empty", "", "qu\"ote\\\t", "line\nline \xE2\x82\xAC \x01 \x7F",
    "a",     "sorted last",          NULL};
#endif
