#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "files.h"

char *cli_read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    size_t room = 0;
    if (!file) return NULL;
    errno = 0;
    if (getdelim(&text, &room, 0, file) < 0 && !feof(file)) {
        free(text);
        text = NULL;
    }
    fclose(file);
    return text;
}

bool cli_write_file(const cli_options *o, const char *path, const char *bytes, size_t size)
{
    char *beside = NULL;
    if (asprintf(&beside, "%s.new", path) < 0) return cli_fail(o, CLI_FAILURE, "out of memory"), false;
    errno = 0;
    FILE *file = fopen(beside, "wb");
    bool good = file && fwrite(bytes, 1, size, file) == size;
    if (file) good &= fclose(file) == 0;
    good = good && rename(beside, path) == 0;
    if (!good) {
        cli_fail(o, CLI_FAILURE, "%s cannot be written: %s", path, strerror(errno ? errno : EIO));
        if (file) unlink(beside);
    }
    free(beside);
    return good;
}

bool cli_memory_open(const cli_options *o, cli_memory *m)
{
    *m = (cli_memory){0};
    m->file = open_memstream(&m->bytes, &m->size);
    if (!m->file) cli_fail(o, CLI_FAILURE, "out of memory");
    return m->file != NULL;
}

bool cli_memory_close(const cli_options *o, cli_memory *m)
{
    bool good = m->file != NULL;
    if (m->file) {
        good = !ferror(m->file);
        good &= fclose(m->file) == 0;
    }
    m->file = NULL;
    if (!good) cli_fail(o, CLI_FAILURE, "out of memory");
    return good;
}

void cli_memory_free(cli_memory *m)
{
    if (m->file) fclose(m->file);
    free(m->bytes);
    *m = (cli_memory){0};
}

void cli_csv_text(FILE *csv, const char *text)
{
    const bool plain = !text[strcspn(text, ",\"\r\n")];
    if (!plain) fputc('"', csv);
    for (; *text; text++) {
        if (*text == '"') fputc('"', csv);
        fputc(*text, csv);
    }
    if (!plain) fputc('"', csv);
}
