/* cuddle.h - status codes, error text, version, logging: what every other header needs.
 *
 * The library never prints, exits or aborts. Every call that can fail returns a
 * cuddle_status and leaves one line of explanation for the calling thread.
 * Read next: cuddle_model.h, cuddle_engine.h, cuddle_sequence.h, cuddle_tokenizer.h.
 */
#ifndef CUDDLE_H
#define CUDDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDDLE_VERSION "0.1.0"

#if defined(__GNUC__)
#define CUDDLE_API __attribute__((visibility("default")))
#define CUDDLE_CHECK __attribute__((warn_unused_result))
#else
#define CUDDLE_API
#define CUDDLE_CHECK
#endif

typedef enum {
    CUDDLE_OK = 0,
    CUDDLE_ERR_ARG,         /* the caller's argument is out of its documented range   */
    CUDDLE_ERR_NOMEM,       /* host memory ran out; what was being built is undone    */
    CUDDLE_ERR_IO,          /* the operating system refused: open, read, map, write   */
    CUDDLE_ERR_NOTFOUND,    /* no such file, model, tensor or key                     */
    CUDDLE_ERR_FORMAT,      /* a file or text from outside is malformed               */
    CUDDLE_ERR_UNSUPPORTED, /* well formed, but cuddle does not know it               */
    CUDDLE_ERR_FULL,        /* no room left: context, pages, sequences, output limit  */
    CUDDLE_ERR_DEVICE,      /* the device failed; the engine that used it is dead     */
    CUDDLE_ERR_CANCELLED,   /* cancelled by the caller                                */
    CUDDLE_ERR_DEADLINE,    /* did not finish before its deadline                     */
    CUDDLE_ERR_INTERNAL     /* a bug in cuddle                                        */
} cuddle_status;

/* The name of a status: "ok", "argument", "out of memory", ... Never NULL. */
CUDDLE_API const char *cuddle_status_name(cuddle_status status);

/* What failed last on this thread: one line that says what, which file, key or
 * tensor, what was wanted and got, and what to do. "" when nothing failed yet.
 * Valid until the next failing call on this thread. */
CUDDLE_API const char *cuddle_errmsg(void);

/* "0.1.0". */
CUDDLE_API const char *cuddle_version(void);

typedef enum { CUDDLE_LOG_ERROR, CUDDLE_LOG_WARN, CUDDLE_LOG_INFO, CUDDLE_LOG_DEBUG } cuddle_log_level;
typedef void (*cuddle_log_fn)(void *user, cuddle_log_level level, const char *line);

/* Where log lines go; NULL (the default) drops them. Call before any other
 * thread uses the library. fn may be called from any thread. */
CUDDLE_API void cuddle_log_set(cuddle_log_fn fn, void *user);

/* Called while work takes long: done of total units (bytes or tokens), what is
 * the work's name. Return false to cancel it (CUDDLE_ERR_CANCELLED). */
typedef bool (*cuddle_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

#ifdef __cplusplus
}
#endif
#endif
