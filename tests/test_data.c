/* Data sets: where they are looked for, what a mirror may send, arrays in memory, slices, ownership. */
#include "data_files.h"

#include <limits.h>
#include <math.h>

#include "data/dataset.h"

static char *saved_folder; /* $SLOPE_DATA_DIR as it was at the start */

/* --- where collections are looked for ----------------------------------------------------------- */

enum { KMNIST_TEST = 10000, KMNIST_IMAGES = 16 + KMNIST_TEST * 784, KMNIST_LABELS = 8 + KMNIST_TEST };
static uint8_t blank_images[KMNIST_IMAGES], blank_labels[KMNIST_LABELS];

/* A blank test set in the form of KMNIST's, with every label the same. */
static void make_blank(int label)
{
    static const uint8_t head[16] = {0, 0, 8, 3, 0, 0, 0x27, 0x10, 0, 0, 0, 28, 0, 0, 0, 28};
    memcpy(blank_images, head, 16);
    memcpy(blank_labels, head, 8);
    blank_labels[3] = 1;
    memset(blank_labels + 8, label, KMNIST_TEST);
}

static void write_blank(const char *name, int label)
{
    char path[256];
    make_folders(name);
    make_blank(label);
    snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte", name);
    write_file(path, blank_images, KMNIST_IMAGES);
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", name);
    write_file(path, blank_labels, KMNIST_LABELS);
}

static int label_found(void)
{
    sl_dataset *data = sl_dataset_named(ctx, "kmnist", SL_TEST);
    expect_no_error();
    const sl_dataset_info info = sl_dataset_describe(data);
    assert_string_equal(info.name, "kmnist");
    assert_int_equal(info.count, KMNIST_TEST);
    float image[784];
    const int label = sl_dataset_sample(data, KMNIST_TEST - 1, image);
    sl_dataset_free(data);
    return label;
}

static void test_search_order(void **state)
{
    (void)state;
    setenv("HOME", in_folder("home"), 1);
    setenv("SLOPE_DATA_DIR", in_folder("own"), 1);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(SL_IO, in_folder("own/kmnist (No such file or directory)"),
                 in_folder("home/.cache/slope/kmnist (No such file or directory)"));
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(SL_IO, "downloads are switched off (SLOPE_DATA_MIRROR=off). Put its four files",
                 "--data digits");
    assert_int_equal(entries("."), 0); /* looking makes no folders */

    write_blank("home/.cache/slope/kmnist", 1);
    assert_int_equal(label_found(), 1);
    setenv("XDG_CACHE_HOME", "not/absolute", 1); /* counts as unset */
    assert_int_equal(label_found(), 1);
    setenv("XDG_CACHE_HOME", in_folder("xdg"), 1);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    sl_clear_error(ctx);
    write_blank("xdg/slope/kmnist", 2);
    assert_int_equal(label_found(), 2);
    write_blank("own/kmnist", 3);
    assert_int_equal(label_found(), 3);
    unlink(in_folder("own/kmnist/t10k-labels-idx1-ubyte")); /* half a pair is none */
    assert_int_equal(label_found(), 2);
    unsetenv("SLOPE_DATA_DIR");
    assert_int_equal(label_found(), 2);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TRAIN));
    expect_error(SL_IO, "no train-images-idx3-ubyte[.gz] in it", in_folder("xdg/slope/kmnist"));

    write_blank("own/kmnist", 10); /* found first, and wrong: an error, not the next place */
    setenv("SLOPE_DATA_DIR", in_folder("own"), 1);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(
        SL_FORMAT,
        "own/kmnist/t10k-labels-idx1-ubyte: offset 8: label 0 is 10; this data set's classes are 0 to 9",
        "left as it is");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("SLOPE_DATA_DIR");
    unsetenv("HOME");
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(SL_IO, "no folder for downloads ($XDG_CACHE_HOME and $HOME are not set)", "into a folder");
}

static void test_names(void **state)
{
    (void)state;
    assert_null(sl_dataset_named(ctx, "cifar", SL_TRAIN));
    expect_error(SL_ARGUMENT, "there is no data set \"cifar\"",
                 "it must be mnist, fashion-mnist, kmnist, digits, or a folder with IDX files");
    assert_null(sl_dataset_named(ctx, "no/such/folder", SL_TRAIN));
    expect_error(SL_IO, "no/such/folder", "No such file");
    assert_null(sl_dataset_named(ctx, NULL, SL_TRAIN));
    expect_error(SL_ARGUMENT, "the name is NULL", "");
    assert_null(sl_dataset_named(ctx, "", SL_TRAIN));
    expect_error(SL_ARGUMENT, "the name is empty", "");
    assert_null(sl_dataset_named(ctx, "mnist", (sl_split)-1));
    expect_error(SL_ARGUMENT, "split is -1", "SL_TRAIN or SL_TEST");
    assert_null(sl_mnist(ctx, folder, (sl_split)5));
    expect_error(SL_ARGUMENT, "sl_mnist", "split is 5");
    char file[512];
    snprintf(file, sizeof file, "%s", write_file("file", "x", 1));
    assert_null(sl_dataset_named(ctx, file, SL_TRAIN));
    expect_error(SL_IO, file, "not a folder");

    sl_dataset *data = sl_dataset_named(ctx, "digits", SL_TEST);
    expect_no_error();
    assert_int_equal(sl_dataset_describe(data).count, 10000);
    sl_dataset *same = sl_digits(ctx, 42, SL_TEST, 10000); /* drawn from the context's seed */
    assert_memory_equal(data->bytes, same->bytes, 10000 * 784);
}

/* --- MNIST itself ------------------------------------------------------------------------------- */

static void test_mnist_must_be_mnist(void **state)
{
    (void)state;
    write_blank("mnist", 3);
    assert_null(sl_mnist(ctx, in_folder("mnist"), SL_TEST));
    expect_error(SL_FORMAT,
                 "mnist/t10k-images-idx3-ubyte: this is not the content of mnist's t10k-images-idx3-ubyte",
                 "should be 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7");
    setenv("SLOPE_DATA_DIR", folder, 1);
    assert_null(sl_dataset_named(ctx, "mnist", SL_TEST));
    expect_error(SL_FORMAT, "this is not the content of mnist's", "left as it is: delete it");
    /* the same folder as a data set of its own */
    sl_dataset *data = sl_dataset_named(ctx, in_folder("mnist"), SL_TEST);
    expect_no_error();
    assert_int_equal(sl_dataset_describe(data).count, KMNIST_TEST);

    make_folders("small");
    write_file("small/train-images-idx3-ubyte", images, IMAGES_SIZE);
    write_file("small/train-labels-idx1-ubyte", labels, LABELS_SIZE);
    assert_null(sl_mnist(ctx, in_folder("small"), SL_TRAIN));
    expect_error(SL_FORMAT, "offset 4: the count of the images is 3; right is 60000 (as in mnist)", "small/");
}

#ifdef SLOPE_ZLIB
static void need_mnist(void)
{
    char path[512];
    if (saved_folder) {
        snprintf(path, sizeof path, "%s/mnist", saved_folder);
        if (access(path, R_OK) == 0) {
            setenv("SLOPE_DATA_DIR", saved_folder, 1);
            return;
        }
    }
    print_message("SKIPPED: $SLOPE_DATA_DIR/mnist is needed\n");
    skip();
}

static void test_real_mnist(void **state)
{
    (void)state;
    need_mnist();
    static const int64_t counts[2] = {60000, 10000};
    static const int class_counts[2][10] = {{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949},
                                            {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}};
    static const char *const sums[2] = {"ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                                        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"};
    for (int split = SL_TRAIN; split <= SL_TEST; split++) {
        sl_dataset *data = sl_mnist(ctx, NULL, (sl_split)split);
        expect_no_error();
        const sl_dataset_info info = sl_dataset_describe(data);
        assert_int_equal(info.count, counts[split]);
        assert_int_equal(info.height, 28);
        assert_int_equal(info.width, 28);
        assert_int_equal(info.classes, 10);
        assert_string_equal(info.name, "mnist");
        assert_string_equal(info.sha256, sums[split]);
        int seen[10] = {0};
        for (int64_t i = 0; i < info.count; i++) seen[data->labels[i]]++;
        assert_memory_equal(seen, class_counts[split], sizeof seen);
        sl_dataset_free(data);
    }
}
#endif

/* --- mirrors ------------------------------------------------------------------------------------ */

#ifdef SLOPE_ZLIB
#    define PACKED_ROOM (1 << 17)
static uint8_t packed_images[PACKED_ROOM];
static size_t packed_images_size;

/* A mirror with KMNIST's blank test set under `name`. */
static void make_mirror(const char *name, int label)
{
    char path[256];
    uint8_t packed_labels[20000];
    make_blank(label);
    packed_images_size = pack(blank_images, KMNIST_IMAGES, packed_images, sizeof packed_images);
    snprintf(path, sizeof path, "%s/kmnist", name);
    make_folders(path);
    snprintf(path, sizeof path, "%s/kmnist/t10k-images-idx3-ubyte.gz", name);
    write_file(path, packed_images, packed_images_size);
    snprintf(path, sizeof path, "%s/kmnist/t10k-labels-idx1-ubyte.gz", name);
    write_file(path, packed_labels, pack(blank_labels, KMNIST_LABELS, packed_labels, sizeof packed_labels));
}

static void use_mirrors(const char *first, const char *second)
{
    char value[1100];
    snprintf(value, sizeof value, " file://%s%s%s ", in_folder(first), second ? "  file://" : "",
             second ? in_folder(second) : "");
    setenv("SLOPE_DATA_MIRROR", value, 1);
    setenv("XDG_CACHE_HOME", in_folder("cache"), 1);
}

/* Whether this library can download at all. */
static void need_curl(void)
{
    use_mirrors("nowhere", NULL);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    const bool without = strstr(sl_error(ctx), "built without libcurl") != NULL;
    expect_error(SL_IO, "kmnist is not on this machine and could not be downloaded", "--data digits");
    assert_int_not_equal(access(in_folder("cache"), F_OK), 0); /* nothing came, nothing was made */
    if (!without) return;
    print_message("SKIPPED: built without libcurl\n");
    skip();
}

static void test_download(void **state)
{
    (void)state;
    need_curl();
    make_mirror("mirror", 4);
    use_mirrors("nowhere", "mirror"); /* the first fails, the second has it */
    assert_int_equal(label_found(), 4);
    assert_int_equal(entries("cache/slope/kmnist"), 2);
    setenv("SLOPE_DATA_MIRROR", "off", 1); /* from now on it is here */
    assert_int_equal(label_found(), 4);

    /* a missing half is fetched; the half that is here stays */
    unlink(in_folder("cache/slope/kmnist/t10k-labels-idx1-ubyte.gz"));
    make_mirror("mirror", 5);
    write_file("mirror/kmnist/t10k-images-idx3-ubyte.gz", "never asked for", 15);
    use_mirrors("mirror", NULL);
    assert_int_equal(label_found(), 5);
    assert_int_equal(entries("cache/slope/kmnist"), 2);
}

static void refuse_download(const void *bytes, size_t size, const char *why)
{
    make_mirror("mirror", 4);
    write_file("mirror/kmnist/t10k-images-idx3-ubyte.gz", bytes, size);
    use_mirrors("mirror", NULL);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    char url[600];
    snprintf(url, sizeof url, "file://%s", in_folder("mirror/kmnist/t10k-images-idx3-ubyte.gz: "));
    assert_non_null(strstr(sl_error(ctx), url));
    expect_error(SL_IO, why, "Put its four files");
    assert_int_not_equal(access(in_folder("cache"), F_OK), 0);
}

static void test_bad_mirror(void **state)
{
    (void)state;
    need_curl();
    make_mirror("mirror", 4);
    static uint8_t bytes[PACKED_ROOM];
    const char *page = "<html><head><title>503 Service Unavailable</title></head></html>";
    refuse_download(page, strlen(page), "looks like a web page");
    memcpy(bytes, packed_images, packed_images_size);
    refuse_download(bytes, packed_images_size - 100, "it is cut off");
    refuse_download(bytes, 0, "0 bytes");
    memcpy(bytes, packed_images, packed_images_size);
    bytes[packed_images_size - 8] ^= 1;
    refuse_download(bytes, packed_images_size, "damaged");
    refuse_download(bytes, pack(images, IMAGES_SIZE, bytes, sizeof bytes),
                    "the count of the images is 3; right is 10000");

    /* bad labels after good images: the images stay, the labels are asked for again */
    make_mirror("mirror", 10);
    use_mirrors("mirror", NULL);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(SL_IO, "offset 8: label 0 is 10", "t10k-labels-idx1-ubyte.gz");
    assert_int_equal(entries("cache/slope/kmnist"), 1);
    make_mirror("mirror", 6);
    assert_int_equal(label_found(), 6);

    /* an unwritable cache */
    write_file("blocked", "x", 1);
    setenv("XDG_CACHE_HOME", in_folder("blocked"), 1);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(SL_IO, in_folder("blocked"), "Not a directory");
}

static void test_wrong_mnist_from_the_mirror(void **state)
{
    (void)state;
    need_curl();
    make_mirror("mirror", 4);
    assert_int_equal(rename(in_folder("mirror/kmnist"), in_folder("mirror/mnist")), 0);
    use_mirrors("mirror", NULL);
    assert_null(sl_mnist(ctx, NULL, SL_TEST));
    expect_error(SL_IO, "this is not the content of mnist's t10k-images-idx3-ubyte: its SHA-256 is",
                 "0fa7898d");
    assert_int_not_equal(access(in_folder("cache"), F_OK), 0);
}

static void test_interrupted_download(void **state)
{
    (void)state;
    need_curl();
    make_mirror("mirror", 4);
    use_mirrors("mirror", "mirror");
    sl_interrupt(ctx);
    assert_null(sl_dataset_named(ctx, "kmnist", SL_TEST));
    expect_error(SL_INTERRUPTED, "t10k-images-idx3-ubyte.gz: the download was interrupted", "");
    assert_int_not_equal(access(in_folder("cache"), F_OK), 0);
}

static void test_download_real_mnist(void **state)
{
    (void)state;
    need_mnist();
    unsetenv("SLOPE_DATA_DIR");
    need_curl();
    char value[600];
    snprintf(value, sizeof value, "file://%s", saved_folder);
    setenv("SLOPE_DATA_MIRROR", value, 1);
    sl_dataset *data = sl_mnist(ctx, NULL, SL_TEST);
    expect_no_error();
    assert_int_equal(sl_dataset_describe(data).count, 10000);
    assert_int_equal(entries("cache/slope/mnist"), 2);
}
#endif

/* --- from memory -------------------------------------------------------------------------------- */

static const float values[12] = {0.5f, -1, 2, 3, 4,  5,
                                 6,    7,  8, 9, 10, 11}; /* 2 samples of 1×2×3, or 12 of 1×1×1 */

static void test_from_labels(void **state)
{
    (void)state;
    float copy[12], image[6];
    int32_t own[2] = {1, 0};
    memcpy(copy, values, sizeof copy);
    sl_dataset *data = sl_dataset_from_labels(ctx, copy, own, 2, 1, 2, 3, 2);
    expect_no_error();
    memset(copy, 0, sizeof copy); /* the data set holds its own copy */
    own[0] = own[1] = 7;
    const sl_dataset_info info = sl_dataset_describe(data);
    assert_string_equal(info.name, "memory");
    assert_string_equal(info.sha256, "");
    assert_int_equal(info.count, 2);
    assert_int_equal(info.height, 1);
    assert_int_equal(info.width, 2);
    assert_int_equal(info.channels, 3);
    assert_int_equal(info.classes, 2);
    assert_int_equal(info.outputs, 0);
    assert_int_equal(sl_dataset_sample(data, 0, image), 1);
    assert_memory_equal(image, values, sizeof image);
    assert_int_equal(sl_dataset_sample(data, 1, image), 0);
    assert_memory_equal(image, values + 6, sizeof image);
    assert_int_equal(sl_dataset_sample(data, 1, NULL), 0);
}

static void test_from_targets(void **state)
{
    (void)state;
    const float targets[4] = {1, 2, 3, 4};
    float image[3];
    sl_dataset *data = sl_dataset_from_targets(ctx, values, targets, 4, 1, 1, 3, 1);
    expect_no_error();
    const sl_dataset_info info = sl_dataset_describe(data);
    assert_int_equal(info.classes, 0);
    assert_int_equal(info.outputs, 1);
    assert_int_equal(info.count, 4);
    assert_memory_equal(data->targets, targets, sizeof targets);
    assert_int_equal(sl_dataset_sample(data, 3, image), -1);
    assert_memory_equal(image, values + 9, sizeof image);
}

static void test_from_memory_arguments(void **state)
{
    (void)state;
    const int32_t own[3] = {0, 1, 2}, negative[3] = {0, -1, 0};
    const float targets[3] = {0, 1, NAN};
    float bad[12];
    memcpy(bad, values, sizeof bad);
#define REFUSED(part, ...)                                                                                   \
    do {                                                                                                     \
        assert_null(__VA_ARGS__);                                                                            \
        expect_error(SL_ARGUMENT, part, "sl_dataset_from_");                                                 \
    } while (0)
    REFUSED("`images` is NULL", sl_dataset_from_labels(ctx, NULL, own, 3, 2, 2, 1, 3));
    REFUSED("`labels` is NULL", sl_dataset_from_labels(ctx, values, NULL, 3, 2, 2, 1, 3));
    REFUSED("`targets` is NULL", sl_dataset_from_targets(ctx, values, NULL, 3, 2, 2, 1, 3));
    REFUSED("count is 0", sl_dataset_from_labels(ctx, values, own, 0, 2, 2, 1, 3));
    REFUSED("count is -5", sl_dataset_from_labels(ctx, values, own, -5, 2, 2, 1, 3));
    REFUSED("count is 0", sl_dataset_from_targets(ctx, values, values, 0, 2, 2, 1, 3));
    REFUSED("height 0, width 2, channels 1", sl_dataset_from_labels(ctx, values, own, 3, 0, 2, 1, 3));
    REFUSED("height 2, width -2", sl_dataset_from_labels(ctx, values, own, 3, 2, -2, 1, 3));
    REFUSED("channels 0", sl_dataset_from_targets(ctx, values, values, 3, 2, 2, 0, 1));
    REFUSED("more than memory can address",
            sl_dataset_from_labels(ctx, values, own, 3, INT_MAX, INT_MAX, INT_MAX, 3));
    REFUSED("more than memory can address",
            sl_dataset_from_targets(ctx, values, values, INT64_MAX / 2, 1, 1, 1, INT_MAX));
    REFUSED("classes is 0", sl_dataset_from_labels(ctx, values, own, 3, 2, 2, 1, 0));
    REFUSED("outputs is -1", sl_dataset_from_targets(ctx, values, values, 3, 2, 2, 1, -1));
    REFUSED("label 2 is 2; with 2 classes it must be 0 to 1",
            sl_dataset_from_labels(ctx, values, own, 3, 2, 2, 1, 2));
    REFUSED("label 1 is -1", sl_dataset_from_labels(ctx, values, negative, 3, 2, 2, 1, 3));
    REFUSED("value 0 of the target of sample 2 is",
            sl_dataset_from_targets(ctx, values, targets, 3, 2, 2, 1, 1));
    bad[6] = INFINITY;
    REFUSED("value 2 of the image of sample 1 is inf", sl_dataset_from_labels(ctx, bad, own, 3, 2, 2, 1, 3));
    bad[6] = NAN;
    REFUSED("value 0 of the image of sample 6", sl_dataset_from_targets(ctx, bad, values, 12, 1, 1, 1, 1));
#undef REFUSED
    assert_null(sl_dataset_from_labels(NULL, values, own, 3, 2, 2, 1, 3));
    assert_null(sl_dataset_from_targets(NULL, values, values, 3, 2, 2, 1, 1));
}

/* --- slices and ownership ----------------------------------------------------------------------- */

static void test_slices(void **state)
{
    (void)state;
    const char *a = write_file("a", images, IMAGES_SIZE), *b = write_file("b", labels, LABELS_SIZE);
    sl_dataset *data = sl_idx(ctx, a, b);
    float image[6];
    sl_dataset *tail = sl_dataset_slice(data, 1, -1);
    expect_no_error();
    assert_int_equal(sl_dataset_describe(tail).count, 2);
    assert_string_equal(sl_dataset_describe(tail).sha256, sl_dataset_describe(data).sha256);
    assert_string_equal(sl_dataset_describe(tail).name, a);
    assert_int_equal(sl_dataset_sample(tail, 1, image), 9);
    assert_true(image[0] == 8 / 255.0f && image[3] == 1);
    assert_int_equal(sl_dataset_sample(tail, 2, image), -1);

    sl_dataset *one = sl_dataset_slice(tail, 1, 1); /* a slice of a slice stands on the whole */
    sl_dataset_free(tail);
    assert_int_equal(sl_dataset_describe(one).count, 1);
    assert_int_equal(sl_dataset_sample(one, 0, image), 9);
    assert_true(image[0] == 8 / 255.0f);
    sl_dataset_free(one);
    assert_int_equal(sl_dataset_sample(data, 0, image), 7);

    const float targets[4] = {1, 2, 3, 4};
    sl_dataset *memory = sl_dataset_from_targets(ctx, values, targets, 2, 1, 2, 3, 2);
    sl_dataset *second = sl_dataset_slice(memory, 1, 1);
    expect_no_error();
    assert_memory_equal(second->targets, targets + 2, 2 * sizeof(float));
    assert_int_equal(sl_dataset_sample(second, 0, image), -1);
    assert_memory_equal(image, values + 6, sizeof image);

    static const int64_t wrong[][2] = {{3, 1}, {-1, 1}, {0, 0},         {0, 4},
                                       {2, 2}, {3, -1}, {INT64_MAX, 1}, {INT64_MIN, -1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_null(sl_dataset_slice(data, wrong[i][0], wrong[i][1]));
        expect_error(SL_ARGUMENT, "sl_dataset_slice", "of a data set of 3");
    }
    assert_null(sl_dataset_slice(NULL, 0, 1));
    expect_no_error();
}

static void test_nothing_happens_while_an_error_is_pending(void **state)
{
    (void)state;
    const int32_t own[3] = {0, 1, 2};
    float image[4] = {-1, -1, -1, -1};
    sl_dataset *data = sl_dataset_from_labels(ctx, values, own, 3, 2, 2, 1, 3);
    assert_null(sl_dataset_named(ctx, "cifar", SL_TRAIN));
    char first[1024];
    snprintf(first, sizeof first, "%s", sl_error(ctx));

    assert_null(sl_dataset_from_labels(ctx, NULL, NULL, 3, 2, 2, 1, 3));
    assert_null(sl_dataset_from_labels(ctx, values, own, 3, 2, 2, 1, 3));
    assert_null(sl_dataset_from_targets(ctx, values, values, 3, 2, 2, 1, 1));
    assert_null(sl_idx(ctx, "a", "b"));
    assert_null(sl_mnist(ctx, NULL, SL_TRAIN));
    assert_null(sl_dataset_named(ctx, "digits", SL_TEST));
    assert_null(sl_dataset_slice(data, 0, 1));
    assert_int_equal(sl_dataset_sample(data, 1, image), -1);
    assert_true(image[0] == -1);
    assert_int_equal(sl_dataset_describe(data).count, 3); /* questions are answered */
    assert_string_equal(sl_error(ctx), first);            /* the first error stays */
    sl_dataset_free(data);                                /* and freeing works */
    sl_clear_error(ctx);
}

static void test_null(void **state)
{
    (void)state;
    float image[4];
    sl_dataset_free(NULL);
    assert_int_equal(sl_dataset_sample(NULL, 0, image), -1);
    const sl_dataset_info info = sl_dataset_describe(NULL);
    assert_string_equal(info.name, "");
    assert_string_equal(info.sha256, "");
    assert_int_equal(info.count, 0);
    assert_null(sl_mnist(NULL, NULL, SL_TRAIN));
    assert_null(sl_dataset_named(NULL, "digits", SL_TRAIN));
    assert_null(sl_idx(NULL, "a", "b"));
}

int main(void)
{
    const char *data = getenv("SLOPE_DATA_DIR");
    saved_folder = data && *data ? strdup(data) : NULL;
    const struct CMUnitTest tests[] = {
#ifdef SLOPE_ZLIB
        TEST(test_download),
        TEST(test_bad_mirror),
        TEST(test_wrong_mnist_from_the_mirror),
        TEST(test_interrupted_download),
        TEST(test_download_real_mnist),
        TEST(test_real_mnist),
#endif
        TEST(test_search_order),
        TEST(test_names),
        TEST(test_mnist_must_be_mnist),
        TEST(test_from_labels),
        TEST(test_from_targets),
        TEST(test_from_memory_arguments),
        TEST(test_slices),
        TEST(test_nothing_happens_while_an_error_is_pending),
        TEST(test_null),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(saved_folder);
    return failed;
}
