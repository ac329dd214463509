/* Hostile safetensors files: every kind of malformed file, limits, every byte of a file changed; text that
 * must not reach a terminal. */
#include <unistd.h>

#include "core/utf8.h"
#include "safetensors_case.h"

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

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text), cmocka_unit_test(test_malformed),
        TEST(test_lengths),          cmocka_unit_test(test_limits),
        TEST(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
