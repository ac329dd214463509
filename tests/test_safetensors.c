/* safetensors files written and read again: round trips, fixed bytes, the writer's arguments, paths and
 * links, disks that fill up. With arguments this program is the C side of test_safetensors_python.py. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "safetensors_case.h"

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
        TEST(test_round_trip),  TEST(test_bytes_are_fixed),       TEST(test_write_arguments),
        TEST(test_paths),       TEST(test_permissions_and_links), TEST(test_full_disk),
        TEST(test_interrupted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
