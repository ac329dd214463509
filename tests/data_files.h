/* What the tests of data sets share: a folder for files, a context, errors, three small images, gzip. */
#ifndef TESTS_DATA_FILES_H
#define TESTS_DATA_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#ifdef SLOPE_ZLIB
#    include <zlib.h>
#endif

#include "slope/data.h"

/* --- a folder for the files of one test --------------------------------------------------------- */

static char folder[64];
static sl_context *ctx;

static inline const char *in_folder(const char *name)
{
    static char path[8][512];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static inline int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/slope-data-XXXXXX");
    unsetenv("SLOPE_DATA_DIR");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/nonexistent", 1);
    setenv("SLOPE_DATA_MIRROR", "off", 1); /* no test reaches for the network */
    ctx = sl_open(.device = SL_CPU, .seed = 42);
    return mkdtemp(folder) ? 0 : -1;
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[128];
    sl_close(ctx);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static inline void make_folders(const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "mkdir -p '%s'", in_folder(name));
    assert_int_equal(system(command), 0);
}

/* Number of entries in a folder below the test's; a temporary file that was left behind shows up here. */
static inline int entries(const char *name)
{
    char command[1024];
    snprintf(command, sizeof command, "ls -A '%s' | wc -l", in_folder(name));
    FILE *pipe = popen(command, "r");
    int n = -1;
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%d", &n), 1);
    pclose(pipe);
    return n;
}

static inline const char *write_file(const char *name, const void *bytes, size_t size)
{
    const char *path = in_folder(name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

/* The pending error has this code and all these parts; clears it. */
static inline void expect_error(sl_status code, const char *a, const char *b)
{
    assert_non_null(sl_error(ctx));
    if (sl_error_code(ctx) != code || !strstr(sl_error(ctx), a) || !strstr(sl_error(ctx), b))
        fail_msg("expected status %d, \"%s\" and \"%s\"; got status %d: %s", (int)code, a, b,
                 (int)sl_error_code(ctx), sl_error(ctx));
    sl_clear_error(ctx);
}

static inline void expect_no_error(void)
{
    if (sl_error(ctx)) fail_msg("%s", sl_error(ctx));
}

/* Three images of 2×2 and their labels. */
static const uint8_t images[] = {0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0,   0,
                                 0, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 254, 255};
#define IMAGES_SIZE sizeof images
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9};
#define LABELS_SIZE sizeof labels

static inline void check_three(sl_dataset *data, const char *name)
{
    expect_no_error();
    assert_non_null(data);
    const sl_dataset_info info = sl_dataset_describe(data);
    assert_string_equal(info.name, name);
    assert_int_equal(info.count, 3);
    assert_int_equal(info.height, 2);
    assert_int_equal(info.width, 2);
    assert_int_equal(info.channels, 1);
    assert_int_equal(info.classes, 10);
    assert_int_equal(info.outputs, 0);
    assert_false(info.synthetic);
    assert_string_equal(info.sha256, "6b3d0fe1f3bab4b67dc543340e4d58628ba5d93b0cd6e2d4f029679ec9dfc69a");
    const int right[3] = {7, 0, 9};
    float image[4];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_dataset_sample(data, i, image), right[i]);
        for (int p = 0; p < 4; p++) assert_true(image[p] == (float)images[16 + 4 * i + p] / 255.0f);
    }
    assert_int_equal(sl_dataset_sample(data, 3, image), -1);
    assert_int_equal(sl_dataset_sample(data, -1, image), -1);
    expect_no_error();
}

#ifdef SLOPE_ZLIB
/* One gzip member; returns its size. */
static inline size_t pack(const void *bytes, size_t size, uint8_t *to, size_t room)
{
    z_stream stream = {0};
    assert_int_equal(deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (uint8_t *)(uintptr_t)bytes;
    stream.avail_in = (uInt)size;
    stream.next_out = to;
    stream.avail_out = (uInt)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    const size_t packed = stream.total_out;
    deflateEnd(&stream);
    return packed;
}
#endif

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
#endif
