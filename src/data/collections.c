/* Data sets in files: a pair of IDX files, a folder of them, and the collections known by name, which are
 * looked for in a few places and downloaded where they are missing. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/file.h"
#include "core/utf8.h"
#include "data/dataset.h"
#include "data/download.h"
#include "data/idx.h"

#define LONGEST_PATH 3072
#define MIRRORS      2

enum { IMAGES, LABELS, FILES };

typedef struct collection {
    const char *name;
    int64_t count[2]; /* by split */
    int side, classes;
    const char *mirrors[MIRRORS];
    const char *sha256[2][FILES]; /* of the unpacked content; NULL: not known, the form alone is checked */
} collection;

static const collection collections[] = {
    {"mnist",
     {60000, 10000},
     28,
     10,
     {"https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"},
     {{"ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
       "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"},
      {"0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
       "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}}},
    {"fashion-mnist",
     {60000, 10000},
     28,
     10,
     {"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"},
     {{NULL}}},
    {"kmnist", {60000, 10000}, 28, 10, {"http://codh.rois.ac.jp/kmnist/dataset/kmnist"}, {{NULL}}},
};
#define COLLECTIONS (sizeof collections / sizeof *collections)

static const collection *known(const char *name)
{
    for (size_t i = 0; i < COLLECTIONS; i++)
        if (strcmp(name, collections[i].name) == 0) return &collections[i];
    return NULL;
}

/* Text that grows until it is full; what no longer fits is left out. */
typedef struct text {
    char at[640];
    size_t used;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(t->at + t->used, sizeof t->at - t->used, format, arguments);
    va_end(arguments);
    if (n > 0) t->used += (size_t)n;
    if (t->used >= sizeof t->at) t->used = sizeof t->at - 1;
}

/* --- finding files ----------------------------------------------------------------------------------- */

/* "train-images-idx3-ubyte", the name that all these collections use. */
static const char *stem(sl_split split, int file)
{
    static const char *const stems[2][FILES] = {{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
                                                {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
    return stems[split == SL_TEST][file];
}

static bool join(char path[LONGEST_PATH], const char *folder, const char *name, const char *ending)
{
    const size_t n = strlen(folder);
    const char *slash = n > 0 && folder[n - 1] == '/' ? "" : "/";
    const int written = snprintf(path, LONGEST_PATH, "%s%s%s%s", folder, slash, name, ending);
    return written > 0 && written < LONGEST_PATH;
}

/* The file in the folder, plain before packed, also in the spelling train-images.idx3-ubyte. */
static bool find_file(const char *folder, sl_split split, int file, char path[LONGEST_PATH])
{
    char dotted[64];
    snprintf(dotted, sizeof dotted, "%s", stem(split, file));
    *strstr(dotted, "-idx") = '.';
    const char *const names[2] = {stem(split, file), dotted}, *const endings[2] = {"", ".gz"};
    for (int e = 0; e < 2; e++)
        for (int n = 0; n < 2; n++)
            if (join(path, folder, names[n], endings[e]) && access(path, F_OK) == 0) return true;
    return false;
}

typedef struct pair {
    char path[FILES][LONGEST_PATH];
} pair;

/* Both files of the split in one folder; where not, adds to `tried` what is missing. */
static bool find_pair(const char *folder, sl_split split, pair *out, text *tried)
{
    struct stat status;
    const sl_shown shown = sl_show_path(folder);
    const char *comma = tried->used > 0 ? ", " : "";
    if (stat(folder, &status) != 0) {
        add(tried, "%s%s (%s)", comma, shown.text, strerror(errno));
        return false;
    }
    if (!S_ISDIR(status.st_mode)) {
        add(tried, "%s%s (not a folder)", comma, shown.text);
        return false;
    }
    for (int f = 0; f < FILES; f++)
        if (!find_file(folder, split, f, out->path[f])) {
            add(tried, "%s%s (no %s[.gz] in it)", comma, shown.text, stem(split, f));
            return false;
        }
    return true;
}

static const char *setting(const char *variable)
{
    const char *value = getenv(variable);
    return value && *value ? value : NULL;
}

/* $XDG_CACHE_HOME/slope/NAME, else ~/.cache/slope/NAME. */
static bool cache_folder(const char *name, char path[LONGEST_PATH])
{
    const char *xdg = setting("XDG_CACHE_HOME"), *home = setting("HOME");
    if (xdg && xdg[0] == '/') return join(path, xdg, "slope/", name);
    return home && join(path, home, ".cache/slope/", name);
}

/* --- reading ----------------------------------------------------------------------------------------- */

static sl_idx_want wanted(const collection *set, sl_split split, int file)
{
    sl_idx_want want = {.dims = file == IMAGES ? 3 : 1};
    if (set) {
        want.count = set->count[split];
        want.as_in = set->name;
        want.height = want.width = set->side;
    }
    return want;
}

/* Reads one file of a collection, or of any pair where `set` is NULL, and checks all that is known of its
 * content. Closes the source. */
static bool read_content(sl_source *source, const collection *set, sl_split split, int file,
                         const sl_idx_want *want, sl_idx_data *out, int *classes, sl_problem *problem)
{
    if (!source) return false;
    const char *name = sl_source_name(source), *sha256 = set ? set->sha256[split][file] : NULL;
    bool good = sl_idx_read(source, want, out, problem);
    if (good && file == LABELS) good = sl_idx_classes(out, name, set ? set->classes : 0, classes, problem);
    if (good && sha256 && strcmp(sha256, out->sha256) != 0)
        good = sl_problem_set(problem, SL_FORMAT,
                              "%s: this is not the content of %s's %s: its SHA-256 is %s and should be %s",
                              name, set->name, stem(split, file), out->sha256, sha256);
    sl_source_close(source);
    if (good) return true;
    free(out->bytes);
    out->bytes = NULL;
    return false;
}

static bool read_file(const char *path, const collection *set, sl_split split, int file,
                      const sl_idx_want *want, sl_idx_data *out, int *classes, sl_problem *problem)
{
    *out = (sl_idx_data){0};
    if (read_content(sl_source_open(path, problem), set, split, file, want, out, classes, problem))
        return true;
    if (set && problem->code == SL_FORMAT && strlen(problem->text) + 120 < sizeof problem->text)
        strcat(problem->text,
               ". The file is left as it is: delete it to have it downloaded anew, or name its folder as "
               "a data set of its own");
    return false;
}

static sl_dataset *read_pair(sl_context *ctx, const char *images_path, const char *labels_path,
                             const char *name, const collection *set, sl_split split)
{
    sl_problem problem = {0};
    sl_idx_data images, labels;
    sl_idx_want want = wanted(set, split, IMAGES);
    int classes = 0;
    if (!read_file(images_path, set, split, IMAGES, &want, &images, &classes, &problem)) {
        sl_fail(ctx, problem.code, "%s", problem.text);
        return NULL;
    }
    const sl_shown shown = sl_show_path(images_path);
    want = (sl_idx_want){.dims = 1, .count = images.dim[0], .as_in = shown.text};
    if (!read_file(labels_path, set, split, LABELS, &want, &labels, &classes, &problem)) {
        sl_fail(ctx, problem.code, "%s", problem.text);
        free(images.bytes);
        return NULL;
    }
    sl_dataset *data = sl_dataset_new(ctx, name, images.dim[0], (int)images.dim[1], (int)images.dim[2], 1);
    if (!data) {
        free(images.bytes);
        free(labels.bytes);
        return NULL;
    }
    data->bytes = images.bytes;
    data->classes = classes > 10 ? classes : 10;
    memcpy(data->sha256, images.sha256, sizeof data->sha256);
    data->labels = sl_new(ctx, (size_t)labels.size, sizeof *data->labels, "the labels of a data set");
    for (int64_t i = 0; data->labels && i < labels.size; i++) data->labels[i] = labels.bytes[i];
    free(labels.bytes);
    if (!data->labels) {
        sl_dataset_free(data);
        return NULL;
    }
    return data;
}

/* --- downloading ------------------------------------------------------------------------------------- */

/* Puts a checked file into its place, as a whole or not at all; makes the folders above it. */
static bool store(sl_context *ctx, const char *path, const uint8_t *bytes, size_t size)
{
    char part[LONGEST_PATH];
    for (size_t i = 1; path[i]; i++) {
        if (path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            sl_fail(ctx, SL_IO, "the folder %s for downloaded data sets cannot be made: %s",
                    sl_show_path(part).text, strerror(errno));
            return false;
        }
    }
    sl_file_writer *writer = sl_file_create(ctx, path);
    if (writer) sl_file_append(writer, bytes, size);
    return sl_file_commit(ctx, writer) == SL_OK;
}

/* Base address number i: of $SLOPE_DATA_MIRROR, whose addresses stand between spaces and get the collection's
 * name added, else of the collection's own. False after the last. */
static bool mirror(const collection *set, int i, char base[LONGEST_PATH])
{
    const char *own = setting("SLOPE_DATA_MIRROR");
    if (!own) return i < MIRRORS && set->mirrors[i] && join(base, set->mirrors[i], "", "");
    own += strspn(own, " ");
    for (; i > 0; i--) {
        own += strcspn(own, " ");
        own += strspn(own, " ");
    }
    char address[LONGEST_PATH];
    const size_t n = strcspn(own, " ");
    if (n == 0 || n >= sizeof address) return false;
    memcpy(address, own, n);
    address[n] = 0;
    return join(base, address, set->name, "");
}

/* Whether what came from `url` is the file that was asked for. */
static bool check_download(const char *url, const uint8_t *bytes, size_t size, const collection *set,
                           sl_split split, int file, sl_problem *problem)
{
    const sl_idx_want want = wanted(set, split, file);
    sl_idx_data idx = {0};
    int classes;
    if (!read_content(sl_source_memory(url, bytes, size, problem), set, split, file, &want, &idx, &classes,
                      problem))
        return false;
    free(idx.bytes);
    return true;
}

/* Tries the mirrors in turn; the first right file is put into its place as a whole. */
static bool download_file(sl_context *ctx, const collection *set, sl_split split, int file, const char *path,
                          text *tried)
{
    char base[LONGEST_PATH], url[LONGEST_PATH];
    for (int i = 0; mirror(set, i, base); i++) {
        sl_problem problem = {0};
        uint8_t *bytes = NULL;
        size_t size = 0;
        if (!join(url, base, stem(split, file), ".gz")) continue;
        sl_say(ctx, "downloading %s", url);
        const bool arrived = sl_download(ctx, url, setting("SLOPE_DATA_MIRROR"), &bytes, &size, &problem);
        if (arrived && check_download(url, bytes, size, set, split, file, &problem)) {
            const bool stored = store(ctx, path, bytes, size);
            free(bytes);
            return stored;
        }
        free(bytes);
        if (problem.code == SL_INTERRUPTED) {
            sl_fail(ctx, SL_INTERRUPTED, "%s", problem.text);
            return false;
        }
        add(tried, "%s%s", tried->used ? "; " : "", problem.text);
        if (problem.code == SL_UNSUPPORTED) return false; /* no other mirror mends that */
    }
    return false;
}

/* Brings the missing files of the split into the folder. `tried` takes the reason of every failure. */
static bool download_pair(sl_context *ctx, const collection *set, sl_split split, const char *folder,
                          pair *out, text *tried)
{
    for (int f = 0; f < FILES; f++) {
        if (find_file(folder, split, f, out->path[f])) continue;
        if (!join(out->path[f], folder, stem(split, f), ".gz")) return false;
        if (!download_file(ctx, set, split, f, out->path[f], tried)) return false;
    }
    return true;
}

/* In $SLOPE_DATA_DIR, then in the cache, then from the network into the cache. */
static sl_dataset *open_collection(sl_context *ctx, const collection *set, sl_split split)
{
    const char *folder = setting("SLOPE_DATA_DIR"), *own = setting("SLOPE_DATA_MIRROR");
    char path[LONGEST_PATH] = "";
    pair files;
    text tried = {.used = 0};
    bool found = folder && join(path, folder, set->name, "") && find_pair(path, split, &files, &tried);
    if (!found && cache_folder(set->name, path)) {
        found = find_pair(path, split, &files, &tried);
        if (!found && own && strcmp(own, "off") == 0)
            add(&tried, "; downloads are switched off (SLOPE_DATA_MIRROR=off)");
        else if (!found)
            found = download_pair(ctx, set, split, path, &files, &tried);
    } else if (!found) {
        add(&tried, "%sthere is no folder for downloads ($XDG_CACHE_HOME and $HOME are not set)",
            tried.used ? "; " : "");
    }
    if (found) return read_pair(ctx, files.path[IMAGES], files.path[LABELS], set->name, set, split);
    sl_fail(
        ctx, SL_IO,
        "%s is not on this machine and could not be downloaded. Tried: %s. Put its four files "
        "(train-images-idx3-ubyte.gz, …) into %s, or use the built-in data set \"digits\" (--data digits)",
        set->name, tried.at, path[0] ? sl_show_path(path).text : "a folder");
    return NULL;
}

/* --- the public calls -------------------------------------------------------------------------------- */

static sl_dataset *open_folder(sl_context *ctx, const char *folder, const char *name, const collection *set,
                               sl_split split)
{
    pair files;
    text tried = {.used = 0};
    if (find_pair(folder, split, &files, &tried))
        return read_pair(ctx, files.path[IMAGES], files.path[LABELS], name, set, split);
    sl_fail(ctx, SL_IO, "no data set in %s: it needs %s and %s, plain or with .gz", tried.at,
            stem(split, IMAGES), stem(split, LABELS));
    return NULL;
}

static bool ready(sl_context *ctx, const char *call, sl_split split)
{
    if (!sl_ok(ctx)) return false;
    if (split == SL_TRAIN || split == SL_TEST) return true;
    sl_fail(ctx, SL_ARGUMENT, "%s: split is %d; it must be SL_TRAIN or SL_TEST", call, (int)split);
    return false;
}

sl_dataset *sl_idx(sl_context *ctx, const char *images_file, const char *labels_file)
{
    if (!sl_ok(ctx)) return NULL;
    if (!images_file || !labels_file) {
        sl_fail(ctx, SL_ARGUMENT, "sl_idx: `%s` is NULL", images_file ? "labels_file" : "images_file");
        return NULL;
    }
    return read_pair(ctx, images_file, labels_file, images_file, NULL, SL_TRAIN);
}

sl_dataset *sl_mnist(sl_context *ctx, const char *folder, sl_split split)
{
    if (!ready(ctx, "sl_mnist", split)) return NULL;
    const collection *mnist = known("mnist");
    return folder ? open_folder(ctx, folder, mnist->name, mnist, split) : open_collection(ctx, mnist, split);
}

sl_dataset *sl_dataset_named(sl_context *ctx, const char *name, sl_split split)
{
    if (!ready(ctx, "sl_dataset_named", split)) return NULL;
    if (!name || !*name) {
        sl_fail(ctx, SL_ARGUMENT, "sl_dataset_named: the name is %s", name ? "empty" : "NULL");
        return NULL;
    }
    if (strcmp(name, "digits") == 0)
        return sl_digits(ctx, ctx->options.seed, split, split == SL_TEST ? 10000 : 60000);
    if (known(name)) return open_collection(ctx, known(name), split);
    struct stat status;
    if (strchr(name, '/') || stat(name, &status) == 0) return open_folder(ctx, name, name, NULL, split);
    text names = {.used = 0};
    for (size_t i = 0; i < COLLECTIONS; i++) add(&names, "%s, ", collections[i].name);
    sl_fail(ctx, SL_ARGUMENT, "there is no data set \"%s\": it must be %sdigits, or a folder with IDX files",
            sl_show_path(name).text, names.at);
    return NULL;
}
