/* Files that a command leaves: whole or not at all. */
#ifndef CLI_FILES_H
#define CLI_FILES_H

#include "cli.h"

/* The whole file, ended by 0. NULL: errno says why. To be freed. */
char *cli_read_text(const char *path);
/* Writes beside `path` and moves it over. False after a message; then what was there before is still there.
 */
bool cli_write_file(const cli_options *o, const char *path, const char *bytes, size_t size);

/* Text that grows in memory and then becomes such a file: print to `file`. */
typedef struct cli_memory {
    FILE *file;
    char *bytes; /* after cli_memory_close */
    size_t size;
} cli_memory;
bool cli_memory_open(const cli_options *o, cli_memory *m); /* false after a message */
/* False after a message (out of memory). To be freed either way. */
bool cli_memory_close(const cli_options *o, cli_memory *m);
void cli_memory_free(cli_memory *m);

/* A field of a CSV file, in quotation marks where it needs them. */
void cli_csv_text(FILE *csv, const char *text);
#endif
