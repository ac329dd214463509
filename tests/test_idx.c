/* IDX files, plain and gzip, and every way one can be malformed; SHA-256. */
#include "data_files.h"

#include "core/sha256.h"
#include "data/idx.h"

/* --- SHA-256 ------------------------------------------------------------------------------------ */

static void test_sha256(void **state)
{
    (void)state;
    static const struct {
        const char *message;
        int times;
        const char *sum;
    } vectors[] = {
        /* FIPS 180-4's examples as published by NIST, and the empty message */
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrs"
         "mnopqrstnopqrstu",
         1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
        {"a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    char text[SL_SHA256_TEXT];
    sl_sha256 sum;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        sl_sha256_start(&sum);
        for (int k = 0; k < vectors[i].times; k++)
            sl_sha256_add(&sum, vectors[i].message, strlen(vectors[i].message));
        sl_sha256_text(&sum, text);
        assert_string_equal(text, vectors[i].sum);
    }
    /* every way to cut 200 bytes in three gives the same sum */
    uint8_t bytes[200];
    char whole[SL_SHA256_TEXT];
    for (int i = 0; i < 200; i++) bytes[i] = (uint8_t)(7 * i);
    sl_sha256_start(&sum);
    sl_sha256_add(&sum, bytes, sizeof bytes);
    sl_sha256_text(&sum, whole);
    for (size_t a = 0; a <= 200; a++)
        for (size_t b = a; b <= 200; b += 13) {
            sl_sha256_start(&sum);
            sl_sha256_add(&sum, bytes, a);
            sl_sha256_add(&sum, bytes + a, b - a);
            sl_sha256_add(&sum, bytes + b, 200 - b);
            sl_sha256_text(&sum, text);
            assert_string_equal(text, whole);
        }
}

/* --- plain IDX files ---------------------------------------------------------------------------- */

static void test_idx_plain(void **state)
{
    (void)state;
    const char *a = write_file("a", images, IMAGES_SIZE), *b = write_file("b", labels, LABELS_SIZE);
    check_three(sl_idx(ctx, a, b), a);
    write_file("train-images-idx3-ubyte", images, IMAGES_SIZE);
    write_file("train-labels.idx1-ubyte", labels, LABELS_SIZE);
    check_three(sl_dataset_named(ctx, folder, SL_TRAIN), folder);
    assert_null(sl_dataset_named(ctx, folder, SL_TEST));
    expect_error(SL_IO, folder, "no t10k-images-idx3-ubyte");
}

static void test_classes_come_from_the_labels(void **state)
{
    (void)state;
    uint8_t many[LABELS_SIZE];
    memcpy(many, labels, sizeof many);
    many[9] = 25;
    const char *a = write_file("a", images, IMAGES_SIZE), *b = write_file("b", many, sizeof many);
    sl_dataset *data = sl_idx(ctx, a, b);
    expect_no_error();
    assert_int_equal(sl_dataset_describe(data).classes, 26);
}

/* What follows the name in the message. `size` 0: the whole array. */
typedef struct malformed {
    const char *what, *message;
    size_t size;
    int at[4], value[4]; /* bytes that are changed; `at` 0 ends the list unless it is the first */
} malformed;

static void refuse(const malformed *m, const uint8_t *good, size_t good_size, const char *other,
                   bool is_images)
{
    uint8_t bytes[64] = {0};
    memcpy(bytes, good, good_size);
    for (int i = 0; i < 4 && (i == 0 || m->at[i] > 0); i++)
        if (m->at[i] >= 0) bytes[m->at[i]] = (uint8_t)m->value[i];
    const char *path = write_file("bad", bytes, m->size ? m->size : good_size);
    assert_null(is_images ? sl_idx(ctx, path, other) : sl_idx(ctx, other, path));
    assert_non_null(sl_error(ctx));
    if (!strstr(sl_error(ctx), m->message)) print_message("case: %s\n", m->what);
    expect_error(SL_FORMAT, path, m->message);
}

static void test_malformed_images(void **state)
{
    (void)state;
    static const malformed cases[] = {
        {"wrong magic",
         "offset 0: the first bytes are 01 00 08 03; an IDX file of images begins 00 00 08 03",
         0,
         {0},
         {1}},
        {"second byte", "the first bytes are 00 ff 08 03", 0, {1}, {255}},
        {"web page", "looks like a web page", 0, {0, 1, 2, 3}, {'<', 'h', 't', 'm'}},
        {"type of signed bytes", "offset 2: the element type is 09; only 08", 0, {2}, {9}},
        {"type of floats", "offset 2: the element type is 0d", 0, {2}, {13}},
        {"labels", "offset 3: 1 dimensions; a file of images has 3 (this is a file of labels)", 0, {3}, {1}},
        {"no dimensions", "offset 3: 0 dimensions", 0, {3}, {0}},
        {"255 dimensions", "offset 3: 255 dimensions", 0, {3}, {255}},
        {"no images", "offset 4: the count is 0", 0, {7}, {0}},
        {"no height", "offset 8: the height is 0", 0, {11}, {0}},
        {"no width", "offset 12: the width is 0", 0, {15}, {0}},
        {"count of 4 billion",
         "offset 4: the sizes up to this count of 4294967295 make more than 2 GiB",
         0,
         {4, 5, 6, 7},
         {255, 255, 255, 255}},
        {"product beyond 2^31", "offset 8: the sizes up to this height of", 0, {4, 8}, {1, 1}},
        {"product that is 0 in 32 bits",
         "offset 12: the sizes up to this width of 65538 make more than 2 GiB",
         0,
         {5, 13},
         {1, 1}},
        {"product that is 0 in 64 bits", "more than 2 GiB", 0, {4, 8, 12}, {128, 128, 128}},
        {"one image too many",
         "the file has 28 bytes; its header (16 bytes, 4×2×2) promises 32",
         0,
         {7},
         {4}},
        {"one image too few", "the file has 28 bytes; its header (16 bytes, 2×2×2) promises 24", 0, {7}, {2}},
        {"2 GiB promised", "the file has 28 bytes", 0, {5, 6, 7, 11}, {63, 255, 255, 10}},
        {"one byte short", "the file has 27 bytes", 27, {-1}, {0}},
        {"one byte more", "the file has 29 bytes", 29, {-1}, {0}},
        {"header alone", "the file has 16 bytes", 16, {-1}, {0}},
        {"cut header", "offset 15: the content ends inside the header of 16 bytes", 15, {-1}, {0}},
        {"cut magic", "offset 3: the content ends inside the header", 3, {-1}, {0}},
        {"one byte", "offset 1: the content ends inside the header", 1, {-1}, {0}},
    };
    const char *good = write_file("labels", labels, LABELS_SIZE);
    char other[512];
    snprintf(other, sizeof other, "%s", good);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(&cases[i], images, IMAGES_SIZE, other, true);
    write_file("empty", "", 0);
    assert_null(sl_idx(ctx, in_folder("empty"), other));
    expect_error(SL_FORMAT, in_folder("empty"), "is empty");
    assert_null(sl_idx(ctx, folder, other));
    expect_error(SL_IO, folder, "is a folder");
    assert_null(sl_idx(ctx, in_folder("nothing"), other));
    expect_error(SL_IO, in_folder("nothing"), "No such file");
    assert_null(sl_idx(ctx, "/dev/null", other));
    expect_error(SL_IO, "/dev/null", "a device or a pipe");
}

static void test_malformed_labels(void **state)
{
    (void)state;
    static const malformed cases[] = {
        {"images", "offset 3: 3 dimensions; a file of labels has 1 (this is a file of images)", 0, {3}, {3}},
        {"wrong magic",
         "the first bytes are 1f 00 08 01; an IDX file of labels begins 00 00 08 01",
         0,
         {0},
         {0x1f}},
        {"fewer labels than images",
         "offset 4: the count of the labels is 2; right is 3 (as in ",
         10,
         {7},
         {2}},
        {"more labels than images",
         "offset 4: the count of the labels is 4; right is 3 (as in ",
         12,
         {7},
         {4}},
        {"short", "the file has 10 bytes; its header (8 bytes, 3×1×1) promises 11", 10, {-1}, {0}},
        {"long", "the file has 12 bytes", 12, {-1}, {0}},
        {"cut header", "offset 7: the content ends inside the header of 8 bytes", 7, {-1}, {0}},
    };
    char other[512];
    snprintf(other, sizeof other, "%s", write_file("images", images, IMAGES_SIZE));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(&cases[i], labels, LABELS_SIZE, other, false);
    assert_null(sl_idx(ctx, other, NULL));
    expect_error(SL_ARGUMENT, "sl_idx", "`labels_file` is NULL");
    assert_null(sl_idx(ctx, NULL, other));
    expect_error(SL_ARGUMENT, "sl_idx", "`images_file` is NULL");
}

/* --- gzip --------------------------------------------------------------------------------------- */

#ifndef SLOPE_ZLIB
static void test_gzip_needs_zlib(void **state)
{
    (void)state;
    static const uint8_t start[] = {0x1f, 0x8b, 8, 0};
    const char *path = write_file("a.gz", start, sizeof start);
    assert_null(sl_idx(ctx, path, path));
    expect_error(SL_UNSUPPORTED, path,
                 "built without zlib: unpack it with gunzip, or install zlib (Debian: zlib1g-dev)");
}
#endif

#ifdef SLOPE_ZLIB
static char labels_path[512];

static void refuse_packed(const uint8_t *bytes, size_t size, const char *message)
{
    const char *path = write_file("bad.gz", bytes, size);
    assert_null(sl_idx(ctx, path, labels_path));
    expect_error(SL_FORMAT, path, message);
}

static void test_gzip(void **state)
{
    (void)state;
    uint8_t packed[512];
    snprintf(labels_path, sizeof labels_path, "%s", write_file("labels", labels, LABELS_SIZE));
    const size_t size = pack(images, IMAGES_SIZE, packed, sizeof packed);
    const char *path = write_file("images.gz", packed, size);
    check_three(sl_idx(ctx, path, labels_path), path);
    path = write_file("images", packed, size); /* known by its content, whatever the name */
    check_three(sl_idx(ctx, path, labels_path), path);
    path = write_file("plain.gz", images, IMAGES_SIZE);
    check_three(sl_idx(ctx, path, labels_path), path);

    write_file("t10k-images-idx3-ubyte.gz", packed, size);
    write_file("t10k-labels-idx1-ubyte.gz", packed, pack(labels, LABELS_SIZE, packed, sizeof packed));
    check_three(sl_dataset_named(ctx, folder, SL_TEST), folder);

    /* cut anywhere into two members, with an empty one between: one content */
    for (size_t cut = 0; cut <= IMAGES_SIZE; cut++) {
        size_t n = pack(images, cut, packed, sizeof packed);
        n += pack("", 0, packed + n, sizeof packed - n);
        n += pack(images + cut, IMAGES_SIZE - cut, packed + n, sizeof packed - n);
        path = write_file("members.gz", packed, n);
        check_three(sl_idx(ctx, path, labels_path), path);
    }
}

static void test_malformed_gzip(void **state)
{
    (void)state;
    uint8_t packed[4096], bytes[256];
    snprintf(labels_path, sizeof labels_path, "%s", write_file("labels", labels, LABELS_SIZE));
    const size_t size = pack(images, IMAGES_SIZE, packed, sizeof packed);
    for (size_t n = 2; n < size; n++) refuse_packed(packed, n, "the gzip file ends at offset");

    const char *page = "<!DOCTYPE html><html><body>403 Forbidden</body></html>";
    refuse_packed((const uint8_t *)page, strlen(page), "a gzip file 1f 8b; this looks like a web page");
    refuse_packed(packed, pack(page, strlen(page), packed, sizeof packed),
                  "offset 0 of the unpacked content: the first bytes are 3c 21 44 4f");

    size_t n = pack(images, IMAGES_SIZE, packed, sizeof packed);
    packed[n] = 'x';
    refuse_packed(packed, n + 1, "byte 78 after the end of the compressed data, where the file should end");
    packed[n] = 0;
    refuse_packed(packed, n + 1, "byte 00 after the end");
    packed[n] = 0x1f;
    packed[n + 1] = 0x8c;
    refuse_packed(packed, n + 2, "are damaged (incorrect header check)");
    packed[n - 8] ^= 1; /* the sum of the content */
    refuse_packed(packed, n, "are damaged (incorrect data check)");

    refuse_packed(packed, pack("", 0, packed, sizeof packed), "the unpacked content is empty");
    refuse_packed(packed, pack(images, 9, packed, sizeof packed),
                  "offset 9 of the unpacked content: the content ends inside the header");
    refuse_packed(packed, pack(images, IMAGES_SIZE - 1, packed, sizeof packed),
                  "offset 27 of the unpacked content: the content ends; its header promises 28 bytes");
    memcpy(bytes, images, IMAGES_SIZE);
    bytes[IMAGES_SIZE] = 1;
    refuse_packed(packed, pack(bytes, IMAGES_SIZE + 1, packed, sizeof packed),
                  "offset 28 of the unpacked content: the content goes on where its header lets it end");
    n = pack(images, IMAGES_SIZE, packed, sizeof packed);
    n += pack(images, IMAGES_SIZE, packed + n, sizeof packed - n);
    refuse_packed(packed, n, "the content goes on");

    /* a header that promises 2 GB in a file of some 40 bytes */
    bytes[5] = 31, bytes[10] = 1;
    refuse_packed(packed, pack(bytes, IMAGES_SIZE, packed, sizeof packed),
                  "more than a gzip file of this size can hold");
}

/* Every bit of a packed file, flipped: refused, or the very same content (a flag or a time in gzip's header).
 */
static void test_damaged_gzip(void **state)
{
    (void)state;
    uint8_t packed[512];
    snprintf(labels_path, sizeof labels_path, "%s", write_file("labels", labels, LABELS_SIZE));
    const size_t size = pack(images, IMAGES_SIZE, packed, sizeof packed);
    int refused = 0;
    for (size_t bit = 0; bit < 8 * size; bit++) {
        packed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const char *path = write_file("bad.gz", packed, size);
        sl_dataset *data = sl_idx(ctx, path, labels_path);
        packed[bit / 8] ^= (uint8_t)(1 << bit % 8);
        if (data) {
            check_three(data, path);
        } else {
            expect_error(SL_FORMAT, path, "");
            refused++;
        }
    }
    assert_true(refused > (int)(8 * (size - 10)));
}

/* 200 MB of zeros in 200 kB, behind a header that promises 12 bytes: no more is unpacked than the header
 * promises. */
static void test_inflate_bomb(void **state)
{
    (void)state;
    const size_t size = (size_t)200 << 20, room = 1 << 20;
    uint8_t *zeros = calloc(size, 1), *packed = malloc(room);
    assert_non_null(zeros);
    assert_non_null(packed);
    memcpy(zeros, images, 16);
    const size_t n = pack(zeros, size, packed, room);
    free(zeros);
    sl_problem problem = {0};
    sl_source *source = sl_source_memory("bomb", packed, n, &problem);
    const sl_idx_want want = {.dims = 3};
    sl_idx_data idx;
    assert_non_null(source);
    assert_false(sl_idx_read(source, &want, &idx, &problem));
    assert_null(idx.bytes);
    assert_non_null(strstr(problem.text, "the content goes on where its header lets it end"));
    uint8_t next;
    assert_int_equal(sl_source_read(source, &next, 1, &problem), 1); /* it stands just behind that byte */
    sl_source_close(source);
    free(packed);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sha256),
        TEST(test_idx_plain),
        TEST(test_classes_come_from_the_labels),
        TEST(test_malformed_images),
        TEST(test_malformed_labels),
#ifdef SLOPE_ZLIB
        TEST(test_gzip),
        TEST(test_malformed_gzip),
        TEST(test_damaged_gzip),
        TEST(test_inflate_bomb),
#else
        TEST(test_gzip_needs_zlib),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
