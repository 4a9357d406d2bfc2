/* gguf.h - GGUF's value types, shared by reader and writer. Source: ggml docs/gguf.md. */
#ifndef CDL_GGUF_H
#define CDL_GGUF_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    CDL_GGUF_U8, CDL_GGUF_I8, CDL_GGUF_U16, CDL_GGUF_I16, CDL_GGUF_U32, CDL_GGUF_I32, CDL_GGUF_F32, CDL_GGUF_BOOL,
    CDL_GGUF_STRING, CDL_GGUF_ARRAY, CDL_GGUF_U64, CDL_GGUF_I64, CDL_GGUF_F64,
    CDL_GGUF_TYPES
} cdl_gguf_type;

enum { CDL_GGUF_ALIGNMENT = 32 };  /* of tensors' data, unless general.alignment says otherwise */

/* Hugging Face's name of a tensor, or the GGUF name itself when it has none. out: at least 256 bytes. */
void cdl_gguf_tensor_name(char *out, const char *arch, const char *name);

/* The other way: false when GGUF has no name for it. Prefixes as in old or composite files ("h.0...",
 * "language_model.model.layers.0...") are known. out: at least 256 bytes. */
bool cdl_gguf_name_of(char *out, const char *arch, const char *hf);

#endif
