/* core/philox.h: known answers, Random123 where it is installed, uniform and normal values, the permutation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "core/philox.h"

#ifdef SL_RANDOM123
#    include <Random123/philox.h>
#endif

static void check_words(sl_words got, uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    assert_int_equal(got.w[0], x);
    assert_int_equal(got.w[1], y);
    assert_int_equal(got.w[2], z);
    assert_int_equal(got.w[3], w);
}

/* The answers of Random123's kat_vectors for philox4x32, 10 rounds. */
static void known_answers(void **state)
{
    (void)state;
    const uint32_t ones = 0xffffffffu;
    check_words(sl_philox((sl_words){{0, 0, 0, 0}}, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
    check_words(sl_philox((sl_words){{ones, ones, ones, ones}}, ones, ones), 0x408f276d, 0x41c83b0e,
                0xa20bc7c6, 0x6d5451fd);
    check_words(
        sl_philox((sl_words){{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0),
        0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

/* Which part of (seed, stream, step, element) goes to which word. */
static void addressing(void **state)
{
    (void)state;
    const uint64_t seed = 0x299f31d0a4093822u, block = 0x85a308d3243f6a88u >> 2;
    sl_words direct =
        sl_philox((sl_words){{(uint32_t)block, (uint32_t)(block >> 32), 0x13198a2e, 0x03707344}}, 0xa4093822,
                  0x299f31d0);
    sl_words words = sl_random_words4(seed, 0x13198a2e, 0x03707344, block);
    for (uint64_t i = 0; i < 4; i++) {
        assert_int_equal(words.w[i], direct.w[i]);
        assert_int_equal(sl_random_word(seed, 0x13198a2e, 0x03707344, 4 * block + i), direct.w[i]);
    }
}

static void random123_agrees(void **state)
{
    (void)state;
#ifdef SL_RANDOM123
    for (uint32_t i = 0; i < 20000; i++) {
        sl_words c = sl_random_words4(99, 1, 0, 2 * i), k = sl_random_words4(99, 1, 0, 2 * i + 1);
        philox4x32_ctr_t counter = {{c.w[0], c.w[1], c.w[2], c.w[3]}};
        philox4x32_key_t key = {{k.w[0], k.w[1]}};
        philox4x32_ctr_t theirs = philox4x32(counter, key);
        check_words(sl_philox(c, k.w[0], k.w[1]), theirs.v[0], theirs.v[1], theirs.v[2], theirs.v[3]);
    }
#else
    skip();
#endif
}

static void uniform_values(void **state)
{
    (void)state;
    assert_true(sl_uniform(0) == 0x1p-33f);
    assert_true(sl_uniform(1) == 0x1p-32f + 0x1p-33f);
    assert_true(sl_uniform(0xffffff7fu) == 1 - 0x1p-24f);
    assert_true(sl_uniform(0xffffff80u) == 1);
    assert_true(sl_uniform(0xffffffffu) == 1);
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < 1000000; i++) {
        float u = sl_uniform(sl_random_word(3, 4, 5, i));
        assert_true(u > 0 && u <= 1);
        sum += u;
        squares += (double)u * u;
    }
    /* four standard deviations of the mean: 0.289 / 1000 and 0.298 / 1000 each */
    assert_true(fabs(sum / 1e6 - 0.5) < 1.2e-3);
    assert_true(fabs(squares / 1e6 - 1.0 / 3) < 1.2e-3);
}

static void normal_values(void **state)
{
    (void)state;
    const int pairs = 500000;
    double moment[5] = {0}, product = 0, worst = 0;
    int beyond_two = 0;
    for (int i = 0; i < pairs; i++) {
        sl_words words = sl_random_words4(11, 2, 0, (uint64_t)i / 2);
        const uint32_t *word = words.w + 2 * (i % 2);
        float z[2];
        sl_normals(word[0], word[1], &z[0], &z[1]);
        const double u = sl_uniform(word[0]), turn = 2 * 3.14159265358979324 * sl_uniform(word[1]);
        const double radius = sqrt(-2 * log(u));
        worst = fmax(worst, fmax(fabs(z[0] - radius * sin(turn)), fabs(z[1] - radius * cos(turn))));
        for (int j = 0; j < 2; j++) {
            double power = 1;
            for (int m = 0; m < 5; m++, power *= z[j]) moment[m] += power;
            beyond_two += fabsf(z[j]) > 2;
        }
        product += (double)z[0] * z[1];
    }
    for (int m = 0; m < 5; m++) moment[m] /= 2 * pairs;
    assert_true(worst < 2e-6);
    /* four standard deviations each: the variances of z, z², z³, z⁴ are 1, 2, 15, 96 */
    assert_true(fabs(moment[1]) < 4e-3);
    assert_true(fabs(moment[2] - 1) < 5.7e-3);
    assert_true(fabs(moment[3]) < 1.55e-2);
    assert_true(fabs(moment[4] - 3) < 3.95e-2);
    assert_true(fabs(product / pairs) < 5.7e-3);
    assert_true(fabs(beyond_two / (2.0 * pairs) - 0.0455003) < 8.4e-4);
}

/* The ends of the range of words give finite values. */
static void normal_extremes(void **state)
{
    (void)state;
    const uint32_t words[] = {0,           1,           0x40000000u, 0x7fffffffu,
                              0x80000000u, 0xc0000000u, 0xffffff80u, 0xffffffffu};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) {
            float z0, z1;
            sl_normals(words[i], words[j], &z0, &z1);
            assert_true(fabsf(z0) < 7 && fabsf(z1) < 7);
        }
}

static void check_bijection(uint64_t n, uint32_t epoch)
{
    char *seen = calloc(n, 1);
    assert_non_null(seen);
    sl_permutation p = sl_permutation_of(17, 3, epoch, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t image = sl_permuted(&p, i);
        assert_true(image < n);
        assert_int_equal(seen[image], 0);
        seen[image] = 1;
    }
    assert_int_equal(sl_permute(17, 3, epoch, n, n / 2), sl_permuted(&p, n / 2));
    free(seen);
}

static void bijection(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 1100; n++) check_bijection(n, (uint32_t)n);
    const uint64_t large[] = {4095, 4096, 4097, 10000, 60000, 65536, 65537, 1000003};
    for (int i = 0; i < 8; i++) check_bijection(large[i], 1);
}

/* A range far too large to list: inside, and distinct for a sample of arguments. */
static void huge_range(void **state)
{
    (void)state;
    const uint64_t n = ((uint64_t)1 << 40) + 12345;
    sl_permutation p = sl_permutation_of(1, 2, 3, n);
    uint64_t images[200];
    for (uint64_t i = 0; i < 200; i++) {
        images[i] = sl_permuted(&p, i < 100 ? i : n - i);
        assert_true(images[i] < n);
        for (uint64_t j = 0; j < i; j++) assert_true(images[j] != images[i]);
    }
}

/* Every order of four things is equally likely: chi-square with 23 degrees of freedom, 49.7 at p = 0.001. */
static void all_orders(void **state)
{
    (void)state;
    const int draws = 48000;
    int count[256] = {0}, kinds = 0;
    for (int e = 0; e < draws; e++) {
        sl_permutation p = sl_permutation_of(5, 2, (uint32_t)e, 4);
        int code = 0;
        for (uint64_t i = 0; i < 4; i++) code = 4 * code + (int)sl_permuted(&p, i);
        count[code]++;
    }
    double chi = 0;
    for (int i = 0; i < 256; i++) {
        if (count[i] == 0) continue;
        kinds++;
        chi += pow(count[i] - draws / 24.0, 2) / (draws / 24.0);
    }
    assert_int_equal(kinds, 24);
    assert_true(chi < 49.7);
}

/* Positions, distances of neighbours, and orders of successive epochs look like chance. */
static void shuffle_statistics(void **state)
{
    (void)state;
    const uint64_t n = 60000;
    const double expected = (n - 1) / 2.0, deviation = n / sqrt(12.0);
    double correlation_epochs = 0;
    for (uint32_t epoch = 0; epoch < 8; epoch++) {
        sl_permutation p = sl_permutation_of(42, 7, epoch, n), q = sl_permutation_of(42, 7, epoch + 1, n);
        double first_half = 0, correlation = 0, neighbours = 0;
        int near = 0;
        for (uint64_t i = 0; i < n; i++) {
            const double a = (double)sl_permuted(&p, i), b = (double)sl_permuted(&p, (i + 1) % n);
            if (i < n / 2) first_half += a;
            correlation += ((double)i - expected) * (a - expected);
            neighbours += (a - expected) * (b - expected);
            correlation_epochs += (a - expected) * ((double)sl_permuted(&q, i) - expected);
            near += fabs(a - b) < 30;
        }
        /* mean of half of the numbers drawn without replacement: deviation / sqrt(n) */
        assert_true(fabs(first_half / (n / 2.0) - expected) < 4 * deviation / sqrt((double)n));
        assert_true(fabs(correlation) / (n * deviation * deviation) < 4 / sqrt((double)n));
        assert_true(fabs(neighbours) / (n * deviation * deviation) < 4 / sqrt((double)n));
        assert_true(abs(near - 59) < 4 * 7.7); /* Poisson: n·2·29.5/n */
    }
    assert_true(fabs(correlation_epochs) / (8 * n * deviation * deviation) < 4 / sqrt(8.0 * n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),    cmocka_unit_test(addressing),
        cmocka_unit_test(random123_agrees), cmocka_unit_test(uniform_values),
        cmocka_unit_test(normal_values),    cmocka_unit_test(normal_extremes),
        cmocka_unit_test(bijection),        cmocka_unit_test(huge_range),
        cmocka_unit_test(all_orders),       cmocka_unit_test(shuffle_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
