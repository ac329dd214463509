/* Status codes. Every code has one row here; the enum and the names are generated from it. */
#ifndef SLOPE_STATUS_H
#define SLOPE_STATUS_H

#if defined(__GNUC__)
#    define SL_API __attribute__((visibility("default")))
#else
#    define SL_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SL_STATUSES(ROW)                                                                                     \
    ROW(OK, "no error")                                                                                      \
    ROW(ARGUMENT, "wrong argument")                                                                          \
    ROW(SHAPE, "shapes do not fit")                                                                          \
    ROW(UNSUPPORTED, "not supported here")                                                                   \
    ROW(MEMORY, "out of memory")                                                                             \
    ROW(DEVICE, "device failed")                                                                             \
    ROW(IO, "file could not be read or written")                                                             \
    ROW(FORMAT, "file is malformed")                                                                         \
    ROW(NOT_FINITE, "a value became NaN or infinite")                                                        \
    ROW(INTERRUPTED, "interrupted")

typedef enum sl_status {
#define ROW(id, text) SL_##id,
    SL_STATUSES(ROW)
#undef ROW
} sl_status;

/* The general sentence for a code ("shapes do not fit"). Never NULL. */
SL_API const char *sl_status_text(sl_status status);

#ifdef __cplusplus
}
#endif
#endif
