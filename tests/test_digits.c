/* The digit generator: the same bytes everywhere, every digit equally often, training and test images apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/sha256.h"
#include "data/digits.h"
#include "data/glyphs.h"
#include "slope/data.h"

static void hash_images(uint64_t seed, sl_split split, int64_t count, char text[SL_SHA256_TEXT])
{
    sl_sha256 sum;
    sl_sha256_start(&sum);
    for (int64_t i = 0; i < count; i++) {
        uint8_t image[SL_DIGIT_PIXELS];
        const uint8_t label = (uint8_t)sl_digit_draw(seed, split, i, image);
        sl_sha256_add(&sum, &label, 1);
        sl_sha256_add(&sum, image, sizeof image);
    }
    sl_sha256_text(&sum, text);
}

/* Any change of these bytes changes every published number of the synthetic digits. */
static void test_committed_bytes(void **state)
{
    (void)state;
    char text[SL_SHA256_TEXT];
    hash_images(42, SL_TRAIN, 100, text);
    assert_string_equal(text, "b02e2439ae5ca82e44e971836a2a590ee5b8ef2eef91eaef381c99cd0f913806");
    hash_images(42, SL_TEST, 100, text);
    assert_string_equal(text, "86807c93def3215a49cfc4c72c51b2ced6a9edc601fc6c0c18fb4c44e31037ff");
    hash_images(UINT64_MAX, SL_TRAIN, 100, text); /* both words of the seed count */
    assert_string_equal(text, "0b7af6fc5ff3c707b193625d01eaeac39a84c409fc5c0836fcddc4db2201c362");
}

static void test_image_depends_on_its_index_alone(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU, .seed = 42);
    sl_dataset *small = sl_digits(ctx, 42, SL_TRAIN, 37), *large = sl_digits(ctx, 42, SL_TRAIN, 120);
    assert_non_null(small);
    assert_non_null(large);
    float a[SL_DIGIT_PIXELS], b[SL_DIGIT_PIXELS];
    for (int i = 0; i < 37; i++) {
        uint8_t bytes[SL_DIGIT_PIXELS];
        const int label = sl_digit_draw(42, SL_TRAIN, i, bytes);
        assert_int_equal(sl_dataset_sample(small, i, a), label);
        assert_int_equal(sl_dataset_sample(large, i, b), label);
        assert_memory_equal(a, b, sizeof a);
        for (int p = 0; p < SL_DIGIT_PIXELS; p++) assert_true(a[p] == (float)bytes[p] / 255.0f);
    }
    sl_close(ctx);
}

static void test_every_digit_equally_often(void **state)
{
    (void)state;
    uint8_t image[SL_DIGIT_PIXELS];
    int in_order = 0;
    for (int split = SL_TRAIN; split <= SL_TEST; split++)
        for (int group = 0; group < 200; group++) {
            int seen = 0;
            for (int i = 0; i < 10; i++) {
                const int label = sl_digit_draw(7, (sl_split)split, 10 * group + i, image);
                seen |= 1 << label;
                in_order += label == i;
            }
            assert_int_equal(seen, 1023);
        }
    assert_in_range(in_order, 300, 500); /* shuffled: one in ten of 4000 stands at its own place */
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void test_no_image_twice(void **state)
{
    (void)state;
    enum { EACH = 4000 };
    static uint64_t hashes[3 * EACH];
    for (int i = 0; i < 3 * EACH; i++) {
        uint8_t image[SL_DIGIT_PIXELS];
        sl_digit_draw(i < 2 * EACH ? 1 : 2, i < EACH ? SL_TRAIN : SL_TEST, i % EACH, image);
        uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
        for (int p = 0; p < SL_DIGIT_PIXELS; p++) hash = (hash ^ image[p]) * 0x100000001b3u;
        hashes[i] = hash;
    }
    qsort(hashes, 3 * EACH, sizeof *hashes, by_value);
    for (int i = 1; i < 3 * EACH; i++) assert_true(hashes[i - 1] != hashes[i]);
}

static void test_ink_lies_on_the_page(void **state)
{
    (void)state;
    for (int i = 0; i < 5000; i++) {
        uint8_t image[SL_DIGIT_PIXELS];
        sl_digit_draw(3, SL_TRAIN, i, image);
        int sum = 0, x_sum = 0, y_sum = 0, corners = 0, darkest = 0;
        for (int p = 0; p < SL_DIGIT_PIXELS; p++) {
            const int x = p % SL_DIGIT_SIDE, y = p / SL_DIGIT_SIDE;
            sum += image[p];
            x_sum += x * image[p];
            y_sum += y * image[p];
            darkest = image[p] > darkest ? image[p] : darkest;
            if ((x == 0 || x == SL_DIGIT_SIDE - 1) && (y == 0 || y == SL_DIGIT_SIDE - 1)) corners += image[p];
        }
        assert_in_range(sum / 255, 12, 300); /* of 784 pixels */
        assert_in_range(x_sum / sum, 6, 21);
        assert_in_range(y_sum / sum, 6, 21);
        assert_in_range(darkest, 120, 255);
        assert_int_equal(corners, 0);
    }
}

/* The label belongs to the picture: the nearest of ten mean pictures is mostly the right one, and not always.
 */
static void test_nearest_mean(void **state)
{
    (void)state;
    enum { TRAIN = 4000, TEST = 2000 };
    static float mean[10][SL_DIGIT_PIXELS];
    uint8_t image[SL_DIGIT_PIXELS];
    int right = 0;
    memset(mean, 0, sizeof mean);
    for (int i = 0; i < TRAIN; i++) {
        const int label = sl_digit_draw(5, SL_TRAIN, i, image);
        for (int p = 0; p < SL_DIGIT_PIXELS; p++) mean[label][p] += (float)image[p] * (10.0f / TRAIN);
    }
    for (int i = 0; i < TEST; i++) {
        const int label = sl_digit_draw(5, SL_TEST, i, image);
        float least = 1e30f;
        int nearest = -1;
        for (int d = 0; d < 10; d++) {
            float distance = 0;
            for (int p = 0; p < SL_DIGIT_PIXELS; p++) {
                const float e = mean[d][p] - (float)image[p];
                distance += e * e;
            }
            if (distance < least) least = distance, nearest = d;
        }
        right += nearest == label;
    }
    print_message("nearest mean: %.1f %%\n", 100.0 * right / TEST);
    assert_in_range(right, TEST * 55 / 100, TEST * 90 / 100);
}

static void test_glyph_table(void **state)
{
    (void)state;
    for (int digit = 0; digit < 10; digit++) {
        assert_true(sl_glyphs[digit][0].weight > 0);
        for (int form = 0; form < SL_GLYPH_FORMS; form++) {
            const sl_glyph *glyph = &sl_glyphs[digit][form];
            if (form > 0 && glyph->weight > 0) assert_true(sl_glyphs[digit][form - 1].weight > 0);
            assert_int_equal(glyph->weight > 0, glyph->strokes[0].count > 0);
            for (int s = 0; s < SL_GLYPH_STROKES; s++) {
                const sl_stroke *stroke = &glyph->strokes[s];
                if (stroke->count == 0) continue;
                assert_in_range(stroke->count, 2, SL_STROKE_POINTS);
                for (int i = 0; i < 2 * stroke->count; i++) assert_in_range(stroke->points[i], 0, 100);
            }
        }
    }
}

static void test_arguments(void **state)
{
    (void)state;
    sl_context *ctx = sl_open(.device = SL_CPU);
    const int64_t counts[] = {0, -1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        assert_null(sl_digits(ctx, 1, SL_TRAIN, counts[i]));
        assert_int_equal(sl_error_code(ctx), SL_ARGUMENT);
        sl_clear_error(ctx);
    }
    assert_null(sl_digits(ctx, 1, (sl_split)2, 10));
    assert_non_null(strstr(sl_error(ctx), "split is 2"));
    assert_null(sl_digits(ctx, 1, SL_TRAIN, 10)); /* the error is still pending */
    sl_clear_error(ctx);
    assert_null(sl_digits(NULL, 1, SL_TRAIN, 10));

    sl_dataset *data = sl_digits(ctx, 1, SL_TEST, 10);
    const sl_dataset_info info = sl_dataset_describe(data);
    assert_string_equal(info.name, "synthetic digits");
    assert_string_equal(info.sha256, "");
    assert_true(info.synthetic);
    assert_int_equal(info.count, 10);
    assert_int_equal(info.height, 28);
    assert_int_equal(info.width, 28);
    assert_int_equal(info.channels, 1);
    assert_int_equal(info.classes, 10);
    assert_int_equal(info.outputs, 0);
    sl_close(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_committed_bytes),
        cmocka_unit_test(test_image_depends_on_its_index_alone),
        cmocka_unit_test(test_every_digit_equally_often),
        cmocka_unit_test(test_no_image_twice),
        cmocka_unit_test(test_ink_lies_on_the_page),
        cmocka_unit_test(test_nearest_mean),
        cmocka_unit_test(test_glyph_table),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
