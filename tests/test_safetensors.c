/* safetensors files: round trips, every kind of malformed file, every byte of a file changed, disks that fill
 * up. With arguments this program is the C side of test_safetensors_python.py. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/context.h"
#include "core/file.h"
#include "core/utf8.h"
#include "data/safetensors.h"

#define CONTEXT(name) struct sl_context name = {.owned = {.previous = &name.owned, .next = &name.owned}}

/* --- a folder for the files of one test --- */

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[4][512];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/slope-safetensors-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* Number of entries in the folder; a temporary file that was left behind shows up here. */
static int entries(void)
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

static void store(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static size_t load(const char *path, char *bytes, size_t room)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, room, file);
    assert_int_equal(fclose(file), 0);
    return n;
}

static void assert_says(const struct sl_context *ctx, sl_status code, const char *words)
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

static void check_sample(const sl_safetensors *file)
{
    assert_int_equal(sl_safetensors_count(file), SAMPLE);
    for (int i = 0; i < SAMPLE; i++) {
        const sl_file_tensor *tensor = sl_safetensors_find(file, sample[i].name);
        assert_non_null(tensor);
        assert_string_equal(tensor->name, sample[i].name);
        assert_int_equal(tensor->dtype, sample[i].dtype);
        assert_true(sl_shape_equal(tensor->shape, sample[i].shape));
        size_t element = sl_file_dtype_size(tensor->dtype);
        size_t n = (size_t)sl_shape_count(tensor->shape) * element;
        if (n == 0) continue;
        assert_int_equal((uintptr_t)tensor->data % element, 0);
        assert_memory_equal(tensor->data, sample[i].data, n);
    }
    int n = 0;
    for (; sample_metadata[2 * n]; n++)
        assert_string_equal(sl_safetensors_metadata(file, sample_metadata[2 * n]),
                            sample_metadata[2 * n + 1]);
    assert_int_equal(sl_safetensors_metadata_count(file), n);
}

static void test_round_trip(void **state)
{
    (void)state;
    CONTEXT(ctx);
    const char *path = in_folder("sample");
    assert_int_equal(sl_safetensors_write(&ctx, path, sample, SAMPLE, sample_metadata), SL_OK);
    sl_safetensors *file = sl_safetensors_read(&ctx, path);
    assert_non_null(file);
    check_sample(file);
    for (int i = 0; i < SAMPLE;
         i++) { /* in the order of their bytes: as written, an empty one before its neighbour */
        const char *name = sl_safetensors_at(file, i)->name;
        assert_string_equal(name, sample[i].name);
    }
    for (int i = 0; sample_metadata[2 * i]; i++) {
        const char *value, *key = sl_safetensors_metadata_at(file, i, &value);
        assert_string_equal(key, sample_metadata[2 * i]);
        assert_string_equal(value, sample_metadata[2 * i + 1]);
    }
    assert_null(sl_safetensors_find(file, "Dense/weight"));
    assert_null(sl_safetensors_find(file, "__metadata__"));
    assert_null(sl_safetensors_metadata(file, "Model"));
    assert_ptr_equal(ctx.owned.next, (sl_owned *)file);
    sl_safetensors_free(file);
    sl_safetensors_free(NULL);
    assert_ptr_equal(ctx.owned.next, &ctx.owned);
}

static void test_bytes_are_fixed(void **state)
{
    (void)state;
    CONTEXT(ctx);
    static const char expected[] = "\x70\0\0\0\0\0\0\0"
                                   "{\"__metadata__\":{\"b\":\"1\",\"a\":\"2\\u000a\"},"
                                   "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                                   "\"x\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[2,6]}}";
    const int32_t number = 0x04030201;
    const sl_file_tensor tensors[] = {{"y", SL_FILE_U8, {1, {2}}, bytes3},
                                      {"x", SL_FILE_I32, {0, {0}}, &number}};
    const char *const metadata[] = {"b", "1", "a", "2\n", NULL};
    char bytes[512];
    size_t header = sizeof expected - 1, padded = 8 + (header - 8 + 7) / 8 * 8;
    char whole[512];
    memset(whole, ' ', sizeof whole);
    memcpy(whole, expected, header);
    whole[0] = (char)(padded - 8);
    memcpy(whole + padded, "\x00\x80\x01\x02\x03\x04", 6);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sl_safetensors_write(&ctx, in_folder("fixed"), tensors, 2, metadata), SL_OK);
        assert_int_equal(load(in_folder("fixed"), bytes, sizeof bytes), padded + 6);
        assert_memory_equal(bytes, whole, padded + 6);
    }
    /* Nothing at all is a file, too. */
    assert_int_equal(sl_safetensors_write(&ctx, in_folder("fixed"), NULL, 0, NULL), SL_OK);
    assert_int_equal(load(in_folder("fixed"), bytes, sizeof bytes), 16);
    assert_memory_equal(bytes, "\x08\0\0\0\0\0\0\0{}      ", 16);
    sl_safetensors *file = sl_safetensors_read(&ctx, in_folder("fixed"));
    assert_non_null(file);
    assert_int_equal(sl_safetensors_count(file), 0);
    assert_int_equal(sl_safetensors_metadata_count(file), 0);
    assert_null(sl_safetensors_find(file, "x"));
    assert_null(sl_safetensors_metadata(file, "x"));
    sl_owned *left = ctx.owned.next; /* as sl_close does */
    sl_disown(left);
    left->free(left);
}

static void test_text(void **state)
{
    (void)state;
    static const char fine[] =
        "a\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF";
    assert_int_equal(sl_utf8_check(fine, sizeof fine), sizeof fine);
    static const char *const wrong[] = {"\x80",
                                        "\xC1\xBF",
                                        "\xE0\x9F\xBF",
                                        "\xED\xA0\x80",
                                        "\xF0\x8F\xBF\xBF",
                                        "\xF4\x90\x80\x80",
                                        "\xF5\x80\x80\x80",
                                        "\xE2\x82\x7F"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(sl_utf8_check(wrong[i], strlen(wrong[i])), 0);
    assert_int_equal(sl_utf8_check("a\xC3\xA9", 2), 1); /* the rest lies behind the end */

    /* What is too long is cut between characters. */
    char text[401];
    for (size_t start = 0; start < 2; start++)
        for (size_t pairs = 110; pairs < 130; pairs++) {
            const size_t end = start + 2 * pairs + pairs % 2;
            memset(text, 'x', end);
            for (size_t i = 0; i < pairs; i++) memcpy(text + start + 2 * i, "\xC3\xA9", 2);
            text[end] = 0;
            const sl_shown name = sl_show_name(text), path = sl_show_path(text);
            assert_int_equal(sl_utf8_check(name.text, strlen(name.text)), strlen(name.text));
            assert_int_equal(sl_utf8_check(path.text, strlen(path.text)), strlen(path.text));
            if (end > 240) continue;
            assert_string_equal(name.text, text);
            assert_string_equal(path.text, text);
        }
    assert_string_equal(sl_show_name("a\n\x1B[2J").text, "a??[2J");
    assert_string_equal(sl_show_path(NULL).text, "(NULL)");
}

/* --- malformed files --- */

/* A file from a header as text and `data` bytes of data, parsed; the exact size lets the sanitizer see every
 * byte. */
static sl_safetensors *parse(struct sl_context *ctx, const char *header, size_t length, size_t data)
{
    unsigned char *bytes = calloc(8 + length + data, 1);
    assert_non_null(bytes);
    const uint64_t n = length;
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, length);
    return sl_safetensors_parse(ctx, "bad.safetensors", bytes, 8 + length + data);
}

#define A "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static const struct {
    const char *header;
    int data;
    sl_status code;
    const char *words; /* "": the file is fine */
} cases[] = {
    {"{" A "}", 8, SL_OK, ""},
    {"{" A "} \n\t\r ", 8, SL_OK, ""},
    {"{ \"__metadata__\" : { } , " A " }", 8, SL_OK, ""},
    {"{\"a\":{\"shape\":[],\"data_offsets\":[0,1],\"dtype\":\"U8\"}}", 1, SL_OK, ""},
    {"{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}," A "}", 9, SL_OK, ""},
    {"{\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}," A "}", 8, SL_OK, ""},
    {"{\"\\u00e9\\ud83d\\ude00\\/\\b\":{\"dtype\":\"U8\",\"shape\":[0,9],\"data_offsets\":[0,0]}}", 0, SL_OK,
     ""},
    /* text */
    {"", 0, SL_FORMAT, "byte 8: the header does not start with '{'"},
    {" {}", 0, SL_FORMAT, "byte 8: the header does not start with '{'"},
    {"\xEF\xBB\xBF{}", 0, SL_FORMAT, "byte 8: the header does not start with '{'"},
    {"[]", 0, SL_FORMAT, "byte 8: the header does not start with '{'"},
    {"{", 0, SL_FORMAT, "byte 9: the header is not valid JSON"},
    {"{\"a\":{}", 0, SL_FORMAT, "byte 15: the header is not valid JSON"},
    {"{\"1\":[1]," /* cJSON before 1.7.18 reads one byte too far */, 0, SL_FORMAT,
     "the header is not valid JSON"},
    {"{}}", 0, SL_FORMAT, "byte 10: a closing brace too many"},
    {"{}{}", 0, SL_FORMAT, "byte 10: the header goes on"},
    {"{" A ",}", 8, SL_FORMAT, "not valid JSON"},
    {"{\"a\" \"b\"}", 0, SL_FORMAT, "byte 13: the header is not valid JSON"},
    {"{\"\xFF\":{}}", 0, SL_FORMAT, "byte 10: the header is not UTF-8"},
    {"{\"\xC0\x80\":{}}", 0, SL_FORMAT, "byte 10: the header is not UTF-8"},
    {"{\"\xED\xA0\x80\":{}}", 0, SL_FORMAT, "byte 10: the header is not UTF-8"},
    {"{\"\xF4\x90\x80\x80\":{}}", 0, SL_FORMAT, "byte 10: the header is not UTF-8"},
    {"{\"\xE2\x82", 0, SL_FORMAT, "byte 10: the header is not UTF-8"},
    {"{\"a\n\":{}}", 0, SL_FORMAT, "byte 11: a control character"},
    {"{\"a\\u0000\":{}}", 0, SL_FORMAT, "byte 12: NUL in a string"},
    {"{\"a\\u00g0\":{}}", 0, SL_FORMAT, "byte 12: \\u without"},
    {"{\"a\\x\":{}}", 0, SL_FORMAT, "byte 12: an unknown escape"},
    {"{\"a\\ud800\":{}}", 0, SL_FORMAT, "not valid JSON"},
    {"{\"a", 0, SL_FORMAT, "byte 9: a string that does not end"},
    {"{\"a\\", 0, SL_FORMAT, "byte 12: an unknown escape"},
    {"{\"a\":{\"b\":{}}}", 0, SL_FORMAT, "byte 18: an object nested too deeply"},
    {"{\"a\":[[]]}", 0, SL_FORMAT, "byte 14: an array that holds something else"},
    {"{\"a\":[1", 0, SL_FORMAT, "byte 15: an array that does not end"},
    {"{\"a\":true}", 0, SL_FORMAT, "byte 13: something else"},
    {"{\"a\":5}", 0, SL_FORMAT, "byte 13: something else"},
    {"{\"a\":null}", 0, SL_FORMAT, "byte 13: something else"},
    {"{} \v", 0, SL_FORMAT, "byte 11: something else"},
    /* keys */
    {"{" A "," A "}", 8, SL_FORMAT, "the key 'a' comes twice"},
    {"{" A ",\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}}", 8, SL_FORMAT,
     "the key 'a' comes twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, SL_FORMAT, "the key '__metadata__' comes twice"},
    {"{\"__metadata__\":{\"k\":\"1\",\"l\":\"\",\"k\":\"2\"}}", 0, SL_FORMAT, "the key 'k' comes twice"},
    {"{\"__metadata__\":{\"k\":[1]}}", 0, SL_FORMAT, "__metadata__: 'k' is not a string"},
    {"{\"__metadata__\":{\"k\":{}}}", 0, SL_FORMAT, "nested too deeply"},
    {"{\"__metadata__\":[]}", 0, SL_FORMAT, "__metadata__ is not an object"},
    {"{\"__metadata__\":\"x\"}", 0, SL_FORMAT, "__metadata__ is not an object"},
    {"{\"a\":[]}", 0, SL_FORMAT, "tensor 'a': its description is not an object"},
    {"{\"a\":{}}", 0, SL_FORMAT, "tensor 'a': dtype is missing"},
    {"{\"a\":{\"dtype\":[],\"shape\":[],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "tensor 'a': dtype is missing or not"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, SL_FORMAT, "tensor 'a': shape is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":\"\",\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "tensor 'a': shape is"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, SL_FORMAT, "tensor 'a': data_offsets is missing"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0]}}", 4, SL_FORMAT,
     "data_offsets is missing or not"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4,4]}}", 4, SL_FORMAT,
     "data_offsets is missing or"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "same key twice"},
    {"{\"a\":{\"dtype\":\"F32\",\"Shape\":[],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "a key that is none of"},
    {"{\"a\":{\"dtype\":\"F31\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "tensor 'a': an unknown dtype"},
    {"{\"a\":{\"dtype\":\"f32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "tensor 'a': an unknown dtype"},
    {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2, SL_UNSUPPORTED,
     "'a' has elements of type BF16"},
    /* shapes */
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, SL_UNSUPPORTED,
     "tensor 'a' has 5 dimensions"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "byte 53: an array with more than 8 dimensions"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "byte 37: an array that holds"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "byte 38: an array that holds"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "byte 38: an array that holds"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[01],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "byte 37: a number that starts"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1 1],\"data_offsets\":[0,4]}}", 4, SL_FORMAT, "not valid JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[,1],\"data_offsets\":[0,4]}}", 4, SL_FORMAT, "not valid JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,],\"data_offsets\":[0,4]}}", 4, SL_FORMAT, "not valid JSON"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551617],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "too large"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824],\"data_offsets\":[0,0]}}", 0, SL_FORMAT,
     "tensor 'a': its shape has too many elements"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296,0],\"data_offsets\":[0,0]}}", 0, SL_FORMAT,
     "tensor 'a': its shape has too many elements"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,2147483648],\"data_offsets\":[0,0]}}", 0, SL_FORMAT,
     "too many"},
    /* offsets */
    {"{" A "}", 7, SL_FORMAT, "tensor 'a': data_offsets lie outside"},
    {"{" A "}", 9, SL_FORMAT, "the tensors end at byte 70, the file at byte 71"},
    {"{}", 1, SL_FORMAT, "the tensors end at byte 10, the file at byte 11"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,0]}}", 4, SL_FORMAT,
     "tensor 'a': data_offsets lie"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,3]}}", 3, SL_FORMAT,
     "'a': data_offsets do not hold"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,5]}}", 5, SL_FORMAT,
     "'a': data_offsets do not hold"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]}}", 4, SL_FORMAT,
     "'a': data_offsets do not hold"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[1,5]}}", 5, SL_FORMAT,
     "tensor 'a': a hole before"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[9,13]}}", 13, SL_FORMAT,
     "tensor 'b': a hole"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[7,11]}}", 11, SL_FORMAT,
     "tensor 'b': its bytes over"},
    {"{" A ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, SL_FORMAT,
     "tensor 'b': its bytes over"},
    {"{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}", 8, SL_FORMAT, "overlap"},
};

static void test_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CONTEXT(ctx);
        sl_safetensors *file = parse(&ctx, cases[i].header, strlen(cases[i].header), (size_t)cases[i].data);
        if (*cases[i].words) {
            if (file) fail_msg("accepted: %s", cases[i].header);
            assert_says(&ctx, cases[i].code, cases[i].words);
            assert_says(&ctx, cases[i].code, "bad.safetensors");
            assert_null(strchr(sl_error(&ctx), '\n'));
        } else if (!file) {
            fail_msg("refused: %s: %s", cases[i].header, sl_error(&ctx));
        }
        sl_safetensors_free(file);
    }
    /* A NUL in the header, in and outside a string. */
    CONTEXT(ctx);
    assert_null(parse(&ctx, "{}\0", 3, 0));
    assert_says(&ctx, SL_FORMAT, "byte 10: something else");
    sl_clear_error(&ctx);
    assert_null(parse(&ctx, "{\"\0\":{}}", 8, 0));
    assert_says(&ctx, SL_FORMAT, "byte 10: a control character");
}

static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        size_t size;
        const char *words;
    } lengths[] = {
        {0, 0, "it has 0 bytes"},
        {2, 7, "it has 7 bytes"},
        {0, 8, "byte 8: the header does not start"},
        {3, 10, "byte 0: a header of 3 bytes in a file of 10"},
        {100000001, 10, "byte 0: a header of 100000001"},
        {UINT64_MAX, 10, "byte 0: a header of 18446744073709551615"},
        {UINT64_MAX - 7, 10, "byte 0: a header of"},
        {(uint64_t)1 << 63, 10, "byte 0: a header of"},
    };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        CONTEXT(ctx);
        char whole[16] = "........{}";
        memcpy(whole, &lengths[i].length, 8);
        char *bytes = malloc(lengths[i].size + 1);
        memcpy(bytes, whole, lengths[i].size);
        assert_null(sl_safetensors_parse(&ctx, "x", realloc(bytes, lengths[i].size ? lengths[i].size : 1),
                                         lengths[i].size));
        assert_says(&ctx, SL_FORMAT, lengths[i].words);
    }
    /* A header of 100 MB and one byte is refused even where the file has it; a sparse file costs nothing. */
    CONTEXT(ctx);
    const uint64_t length = 100000001;
    store(in_folder("long"), &length, 8);
    assert_int_equal(truncate(in_folder("long"), 8 + 100000001), 0);
    assert_null(sl_safetensors_read(&ctx, in_folder("long")));
    assert_says(&ctx, SL_FORMAT, "byte 0: a header of 100000001");
}

/* Headers that are made by repetition: `unit` between `head` and `tail`. */
static void refuse_repeated(const char *head, const char *unit, size_t times, const char *tail,
                            const char *words)
{
    CONTEXT(ctx);
    const size_t h = strlen(head), u = strlen(unit), t = strlen(tail), n = h + u * times + t;
    char *header = malloc(n);
    assert_non_null(header);
    memcpy(header, head, h);
    for (size_t i = 0; i < times; i++) memcpy(header + h + i * u, unit, u);
    memcpy(header + h + u * times, tail, t);
    sl_safetensors *file = parse(&ctx, header, n, 0);
    free(header);
    if (!*words) {
        if (!file) fail_msg("%s", sl_error(&ctx));
        sl_safetensors_free(file);
        return;
    }
    assert_null(file);
    assert_says(&ctx, SL_FORMAT, words);
}

static void test_limits(void **state)
{
    (void)state;
    refuse_repeated("{\"a\":", "{\"a\":", 1000000, "", "nested too deeply");
    refuse_repeated("{\"a\":", "[", 1000000, "", "an array that holds something else");
    refuse_repeated("{\"a\":[", "0,", 1000000, "0]}", "more than 8 dimensions");
    refuse_repeated("{", "\"a\":\"\",", 600000, "\"a\":\"\"}", "too many entries");
    refuse_repeated("{", "\"a\":[],", 400000, "\"b\":[]}", "the key 'a' comes twice");
    refuse_repeated("{\"", "x", 1024, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", "");
    refuse_repeated("{\"", "x", 1025, "\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
                    "more than 1024");
    refuse_repeated("{\"__metadata__\":{\"", "x", 1025, "\":\"\"}}", "more than 1024");
    refuse_repeated("{\"__metadata__\":{\"x\":\"", "long \\n", 100000, "\"}}", "");
    refuse_repeated("{\"", "\\u001b[2J", 100, "\":{}}", "'?[2J?[2J"); /* nothing reaches a terminal */
    refuse_repeated("{}", " ", 1000000, "", "");

    /* 100 000 tensors are read, one more is not. */
    const int most = SL_FILE_MAX_ENTRIES;
    for (int extra = 0; extra < 2; extra++) {
        CONTEXT(ctx);
        char *header = malloc((size_t)(most + 1) * 70), *p = header;
        assert_non_null(header);
        *p++ = '{';
        for (int i = 0; i < most + extra; i++)
            p += sprintf(p, "\"%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]},", i, i, i + 1);
        p[-1] = '}';
        sl_safetensors *file = parse(&ctx, header, (size_t)(p - header), (size_t)(most + extra));
        free(header);
        if (extra) {
            assert_null(file);
            assert_says(&ctx, SL_FORMAT, "100001 tensors");
        } else {
            if (!file) fail_msg("%s", sl_error(&ctx));
            assert_int_equal(sl_safetensors_count(file), most);
            assert_string_equal(sl_safetensors_find(file, "77777")->name, "77777");
            assert_string_equal(sl_safetensors_at(file, 4321)->name, "4321");
            sl_safetensors_free(file);
        }
    }
}

/* Every byte of a good file takes every value; every prefix is tried. Nothing may crash, and what is accepted
 * has tensors inside the file. */
static void test_mutations(void **state)
{
    (void)state;
    CONTEXT(ctx);
    assert_int_equal(sl_safetensors_write(&ctx, in_folder("small"), sample + 1, 3, sample_metadata), SL_OK);
    char good[1024];
    const size_t size = load(in_folder("small"), good, sizeof good);
    assert_true(size > 300 && size < sizeof good);
    uint64_t header;
    memcpy(&header, good, 8);
    size_t accepted = 0, refused = 0;
    for (size_t i = 0; i < size; i++)
        for (int value = 0; value < 256; value++) {
            if ((char)value == good[i]) continue;
            char *bytes = malloc(size);
            memcpy(bytes, good, size);
            bytes[i] = (char)value;
            sl_safetensors *file = sl_safetensors_parse(&ctx, "small", bytes, size);
            if (file) {
                accepted++;
                assert_int_equal(sl_safetensors_count(file), 3);
                size_t total = 0;
                for (int t = 0; t < 3; t++) {
                    const sl_file_tensor *tensor = sl_safetensors_at(file, t);
                    total += (size_t)sl_shape_count(tensor->shape) * sl_file_dtype_size(tensor->dtype);
                }
                assert_int_equal(total, size - 8 - header);
            } else {
                refused++;
                assert_non_null(sl_error(&ctx));
                if (i >= 8 + header) fail_msg("data byte %zu refused: %s", i, sl_error(&ctx));
                sl_clear_error(&ctx);
            }
            sl_safetensors_free(file);
        }
    assert_true(accepted > 255 * (size - 8 - header) && refused > 200 * header / 2);
    for (size_t n = 0; n < size; n++) {
        char *bytes = malloc(n ? n : 1);
        memcpy(bytes, good, n);
        assert_null(sl_safetensors_parse(&ctx, "small", bytes, n));
        assert_int_equal(sl_error_code(&ctx), SL_FORMAT);
        sl_clear_error(&ctx);
    }
}

/* --- arguments of the writer --- */

static void test_write_arguments(void **state)
{
    (void)state;
    char long_name[1026];
    memset(long_name, 'x', 1025);
    long_name[1025] = 0;
    const sl_file_tensor wrong[] = {
        {NULL, SL_FILE_U8, {0}, bytes3},
        {"bad \xFF", SL_FILE_U8, {0}, bytes3},
        {long_name, SL_FILE_U8, {0}, bytes3},
        {"__metadata__", SL_FILE_U8, {0}, bytes3},
        {"w", SL_FILE_DTYPE_COUNT, {0}, bytes3},
        {"w", SL_FILE_U8, {5, {1}}, bytes3},
        {"w", SL_FILE_U8, {1, {-1}}, bytes3},
        {"w", SL_FILE_U8, {2, {INT64_MAX, 2}}, bytes3},
        {"w", SL_FILE_F64, {1, {INT64_MAX / 4}}, bytes3},
        {"w", SL_FILE_U8, {1, {3}}, NULL},
        {"first", SL_FILE_U8, {0}, bytes3}, /* the name of the tensor before it */
    };
    static const char *const words[] = {"a tensor's name is NULL",
                                        "not UTF-8 at its byte 4",
                                        "has 1025 bytes",
                                        "reserves",
                                        "an unknown element type",
                                        "number of dimensions",
                                        "'w' has a negative dimension",
                                        "too many elements",
                                        "too many elements",
                                        "'w' has no data",
                                        "'first' comes twice"};
    const char *path = in_folder("arguments");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CONTEXT(ctx);
        const sl_file_tensor tensors[] = {{"first", SL_FILE_U8, {1, {3}}, bytes3}, wrong[i]};
        assert_int_equal(sl_safetensors_write(&ctx, path, tensors, 2, NULL), SL_ARGUMENT);
        assert_says(&ctx, SL_ARGUMENT, words[i]);
        assert_int_equal(sl_safetensors_write(&ctx, path, sample, 1, NULL), SL_ARGUMENT); /* still pending */
    }
    static const char *const bad[][5] = {
        {"key", NULL}, {"k", "1", "k", "2", NULL}, {"k", "\x80", NULL}, {"\xE2\x82", "v", NULL}};
    static const char *const bad_words[] = {"value is NULL", "'k' comes twice", "value is not UTF-8",
                                            "key is not UTF-8"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CONTEXT(ctx);
        assert_int_equal(sl_safetensors_write(&ctx, path, sample, 1, bad[i]), SL_ARGUMENT);
        assert_says(&ctx, SL_ARGUMENT, bad_words[i]);
    }
    assert_int_equal(entries(), 0);
}

/* --- the file system --- */

static void test_paths(void **state)
{
    (void)state;
    struct {
        const char *path, *write_words, *read_words;
    } paths[] = {
        {folder, "a folder, not a regular file", "a folder, not a regular file"},
        {"/dev/null", "a device, not a regular file", "a device, not a regular file"},
        {"/dev/full", "a device, not a regular file", "a device, not a regular file"},
        {in_folder("fifo"), "a pipe, not a regular file", "a pipe, not a regular file"},
        {in_folder("none/file"), "its folder does not exist", "No such file"},
        {in_folder("file/"), "a folder's name", "No such file"},
    };
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        CONTEXT(ctx);
        assert_int_equal(sl_safetensors_write(&ctx, paths[i].path, sample, SAMPLE, NULL), SL_IO);
        assert_says(&ctx, SL_IO, paths[i].write_words);
        assert_says(&ctx, SL_IO, paths[i].path);
        sl_clear_error(&ctx);
        assert_null(sl_safetensors_read(&ctx, paths[i].path));
        assert_says(&ctx, SL_IO, paths[i].read_words);
    }
    CONTEXT(ctx);
    assert_int_equal(sl_safetensors_write(&ctx, "", sample, 1, NULL), SL_ARGUMENT);
    sl_clear_error(&ctx);
    assert_int_equal(sl_safetensors_write(&ctx, NULL, sample, 1, NULL), SL_ARGUMENT);
    sl_clear_error(&ctx);
    assert_null(sl_safetensors_read(&ctx, NULL));
    sl_clear_error(&ctx);
    char path[600];
    snprintf(path, sizeof path, "%s/%0255d", folder, 7); /* the longest name a file can have */
    assert_int_equal(sl_safetensors_write(&ctx, path, sample, 1, NULL), SL_OK);
    strcat(path, "7");
    assert_int_equal(sl_safetensors_write(&ctx, path, sample, 1, NULL), SL_IO);
    assert_says(&ctx, SL_IO, "too long");
    assert_int_equal(entries(), 2);
}

static mode_t mode_of(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return status.st_mode & 0777;
}

static void test_permissions_and_links(void **state)
{
    (void)state;
    CONTEXT(ctx);
    mode_t before = umask(027);
    assert_int_equal(sl_safetensors_write(&ctx, in_folder("target"), sample, 1, NULL), SL_OK);
    umask(before);
    assert_int_equal(mode_of(in_folder("target")), 0640);
    /* A link stays a link, and what it points to is replaced. */
    assert_int_equal(symlink("target", in_folder("link")), 0);
    assert_int_equal(sl_safetensors_write(&ctx, in_folder("link"), sample, SAMPLE, sample_metadata), SL_OK);
    struct stat status;
    assert_int_equal(lstat(in_folder("link"), &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    sl_safetensors *file = sl_safetensors_read(&ctx, in_folder("target"));
    assert_non_null(file);
    check_sample(file);
    sl_safetensors_free(file);
    if (geteuid() != 0) {
        assert_int_equal(chmod(in_folder("target"), 0400), 0);
        assert_int_equal(sl_safetensors_write(&ctx, in_folder("target"), sample, 1, NULL), SL_IO);
        assert_says(&ctx, SL_IO, "Permission denied");
        sl_clear_error(&ctx);
        assert_int_equal(chmod(in_folder("target"), 0000), 0);
        assert_null(sl_safetensors_read(&ctx, in_folder("target")));
        assert_says(&ctx, SL_IO, "Permission denied");
    }
    assert_int_equal(entries(), 2);
}

static void check_old_file(const char *path)
{
    CONTEXT(ctx);
    sl_safetensors *file = sl_safetensors_read(&ctx, path);
    if (!file) fail_msg("%s", sl_error(&ctx));
    check_sample(file);
    sl_safetensors_free(file);
}

/* The disk is full after any number of bytes: an error, the old file, and no leftovers. */
static void test_full_disk(void **state)
{
    (void)state;
    CONTEXT(ctx);
    const char *path = in_folder("model");
    assert_int_equal(sl_safetensors_write(&ctx, path, sample, SAMPLE, sample_metadata), SL_OK);
    static float large[4096];
    const sl_file_tensor tensors[] = {{"large", SL_FILE_F32, {1, {4096}}, large}, sample[0]};
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct stat complete;
    assert_int_equal(sl_safetensors_write(&ctx, in_folder("complete"), tensors, 2, NULL), SL_OK);
    assert_int_equal(stat(in_folder("complete"), &complete), 0);
    assert_int_equal(unlink(in_folder("complete")), 0);
    const rlim_t sizes[] = {0, 1, 8, 50, 300, 4096, 16384, (rlim_t)complete.st_size - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        limit = before;
        limit.rlim_cur = sizes[i];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        sl_status status = sl_safetensors_write(&ctx, path, tensors, 2, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, SL_IO);
        assert_says(&ctx, SL_IO, "cannot write ");
        assert_says(&ctx, SL_IO, path);
        assert_says(&ctx, SL_IO, strerror(EFBIG));
        sl_clear_error(&ctx);
        assert_int_equal(entries(), 1);
        check_old_file(path);
    }
    assert_int_equal(sl_safetensors_write(&ctx, path, tensors, 2, NULL), SL_OK);
    sl_safetensors *file = sl_safetensors_read(&ctx, path);
    assert_non_null(file);
    assert_int_equal(sl_safetensors_count(file), 2);
    sl_safetensors_free(file);
}

/* The process dies when all bytes are written but the file is not in its place yet. */
static void test_interrupted(void **state)
{
    (void)state;
    CONTEXT(ctx);
    const char *path = in_folder("model");
    assert_int_equal(sl_safetensors_write(&ctx, path, sample, SAMPLE, sample_metadata), SL_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        sl_file_writer *writer = sl_file_create(&ctx, path);
        sl_file_append(writer, "half a file", 11);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(entries(), 2);
    char left[32];
    snprintf(left, sizeof left, "model.tmp.%ld.0", (long)child);
    assert_int_equal(access(in_folder(left), F_OK), 0);
    check_old_file(path);
    assert_int_equal(sl_safetensors_write(&ctx, path, sample, SAMPLE, sample_metadata), SL_OK);
    check_old_file(path);

    /* Given up: nothing is left. Two writers at once: the later commit wins. */
    sl_file_writer *one = sl_file_create(&ctx, in_folder("other")),
                   *two = sl_file_create(&ctx, in_folder("other"));
    assert_int_equal(entries(), 4);
    assert_int_equal(sl_file_append(one, "one", 3), SL_OK);
    assert_int_equal(sl_file_append(two, "two", 3), SL_OK);
    assert_int_equal(sl_file_commit(&ctx, two), SL_OK);
    assert_int_equal(sl_file_commit(&ctx, one), SL_OK);
    char bytes[8];
    assert_int_equal(load(in_folder("other"), bytes, sizeof bytes), 3);
    assert_memory_equal(bytes, "one", 3);
    sl_file_abandon(sl_file_create(&ctx, in_folder("third")));
    sl_file_abandon(NULL);
    assert_int_equal(entries(), 3);
    /* The destination turned into a folder meanwhile. */
    one = sl_file_create(&ctx, in_folder("third"));
    assert_int_equal(mkdir(in_folder("third"), 0700), 0);
    assert_int_equal(sl_file_commit(&ctx, one), SL_IO);
    assert_says(&ctx, SL_IO, strerror(EISDIR));
    assert_int_equal(entries(), 4);
}

/* --- the C side of the Python test --- */

static int report(const struct sl_context *ctx)
{
    if (sl_ok(ctx)) return 0;
    printf("%s\n", sl_error(ctx));
    return 1;
}

static bool same(const sl_safetensors *file)
{
    int keys = 0;
    for (int i = 0; i < SAMPLE; i++) {
        const sl_file_tensor *tensor = sl_safetensors_find(file, sample[i].name);
        if (!tensor || tensor->dtype != sample[i].dtype || !sl_shape_equal(tensor->shape, sample[i].shape))
            return false;
        size_t n = (size_t)sl_shape_count(tensor->shape) * sl_file_dtype_size(tensor->dtype);
        if (n && memcmp(tensor->data, sample[i].data, n) != 0) return false;
    }
    for (; sample_metadata[2 * keys]; keys++) {
        const char *value = sl_safetensors_metadata(file, sample_metadata[2 * keys]);
        if (!value || strcmp(value, sample_metadata[2 * keys + 1]) != 0) return false;
    }
    return sl_safetensors_count(file) == SAMPLE && sl_safetensors_metadata_count(file) == keys;
}

/* `path` holds files one after the other, each behind its size in 4 bytes; prints one digit for each: 1
 * accepted. */
static int verdicts(struct sl_context *ctx, const char *path)
{
    void *all;
    size_t size;
    if (sl_file_read(ctx, path, &all, &size) != SL_OK) return report(ctx);
    for (size_t at = 0; at + 4 <= size;) {
        uint32_t n;
        memcpy(&n, (const char *)all + at, 4);
        char *bytes = malloc(n ? n : 1);
        memcpy(bytes, (const char *)all + at + 4, n);
        sl_safetensors *file = sl_safetensors_parse(ctx, "one", bytes, n);
        putchar(file ? '1' : sl_error_code(ctx) == SL_UNSUPPORTED ? 'u' : '0');
        sl_safetensors_free(file);
        sl_clear_error(ctx);
        at += 4 + n;
    }
    free(all);
    return 0;
}

static int serve(const char *command, const char *path)
{
    CONTEXT(ctx);
    if (!strcmp(command, "verdicts")) return verdicts(&ctx, path);
    if (!strcmp(command, "write")) {
        sl_safetensors_write(&ctx, path, sample, SAMPLE, sample_metadata);
        return report(&ctx);
    }
    sl_safetensors *file = sl_safetensors_read(&ctx, path);
    if (!file) return report(&ctx);
    bool fine = same(file);
    sl_safetensors_free(file);
    if (!fine) puts("the file differs from the sample");
    return !fine;
}

int main(int argc, char **argv)
{
    if (argc == 3) return serve(argv[1], argv[2]);
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_bytes_are_fixed),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_malformed),
        TEST(test_lengths),
        cmocka_unit_test(test_limits),
        TEST(test_mutations),
        TEST(test_write_arguments),
        TEST(test_paths),
        TEST(test_permissions_and_links),
        TEST(test_full_disk),
        TEST(test_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
