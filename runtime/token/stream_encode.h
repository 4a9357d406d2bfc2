/* stream_encode.h - ids of a text that comes in parts, those of the whole text, in bounded memory.
 *
 * The text is cut only where no part of the tokenizer can see across: between a letter and " x", or behind a line end
 * that a letter follows, as far as normalizers, pre-tokenizers, added tokens and vocabulary are known to allow it.
 * No special tokens are added; truncation and padding do not apply. Tests: tests/unit/test_stream_encode.c */
#ifndef CDL_STREAM_ENCODE_H
#define CDL_STREAM_ENCODE_H

#include "cuddle_tokenizer.h"

typedef struct cdl_stream_encode cdl_stream_encode;

/* part_min: bytes that are encoded at once, at least; 0: 1 MiB. t must outlive it. */
CUDDLE_CHECK cuddle_status cdl_stream_encode_new(cdl_stream_encode **out, const cuddle_tokenizer *t, size_t part_min);
void cdl_stream_encode_free(cdl_stream_encode *s);
/* Adds text, maybe none; last: the end of the whole. *ids [*n]: what is certain by now, borrowed until the next call.
 * Errors: ARG (not UTF-8), FULL (256 MiB without a place to cut), FORMAT, NOMEM. */
CUDDLE_CHECK cuddle_status cdl_stream_encode_put(cdl_stream_encode *s, const char *text, size_t n_text, bool last,
        const int32_t **ids, size_t *n);

#endif
