/* convert_parts.h - what convert.c, convert_config.c and convert_tokenizer.c share. */
#ifndef CDL_CONVERT_PARTS_H
#define CDL_CONVERT_PARTS_H

#include "format/gguf_write.h"
#include "graph/graph.h"
#include "model/config.h"
#include "model/convert.h"

/* One --quantize type. */
typedef struct {
    const char *name;
    cdl_dtype base;            /* of most products                                  */
    uint32_t file_type;        /* general.file_type                                 */
    cdl_dtype more;            /* of the layers that a mix gives more bits; or base */
    bool mix_m;                /* which layers: as llama.cpp's _M mixes, else _S    */
} cdl_convert_recipe;

typedef enum {
    CDL_CONVERT_COPY,
    CDL_CONVERT_PERMUTE,       /* rows of q and k: rotary pairs side by side    */
    CDL_CONVERT_PLUS_ONE,
    CDL_CONVERT_TRANSPOSE,
    CDL_CONVERT_VALUES         /* computed, not from a file                     */
} cdl_convert_form;

/* Where an item's values come from, and how. */
typedef struct {
    const cdl_tensor_entry *entry; /* NULL with VALUES                              */
    const float *values;           /* VALUES: in the arena                          */
    cdl_convert_form form;
    uint32_t head_dim, rotary_dim; /* PERMUTE: rows of a head, and those that turn  */
} cdl_convert_source;

typedef struct {
    const cdl_checkpoint *c;
    const cdl_convert_opts *opts;
    const cdl_convert_recipe *recipe;
    const char *arch;          /* GGUF's name                                       */
    bool interleaved;          /* GGUF wants q's and k's rotary pairs side by side  */
    uint32_t rotary_dim;       /* of a head; 0 without RoPE                         */
    cdl_config config;         /* of the text model                                 */
    cdl_graph graph;           /* of a Hugging Face model, not fused                */
    cdl_arena arena;
    cdl_gguf_writer w;
    cdl_gguf_item *items;
    cdl_convert_source *sources;
    size_t n, cap;
} cdl_converter;

/* Adds an item; name is copied. */
CUDDLE_CHECK cuddle_status cdl_convert_add(cdl_converter *cv, const char *name, const cdl_gguf_item *item,
        const cdl_convert_source *source);
void cdl_convert_note(const cdl_converter *cv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* convert_config.c: GGUF's architecture for the checkpoint's; UNSUPPORTED when there is none. */
CUDDLE_CHECK cuddle_status cdl_convert_find_arch(cdl_converter *cv);
/* The metadata of the architecture, and RoPE's factors as items. */
CUDDLE_CHECK cuddle_status cdl_convert_put_config(cdl_converter *cv);

/* convert_tokenizer.c: the metadata of tokenizer and chat template. */
CUDDLE_CHECK cuddle_status cdl_convert_put_tokenizer(cdl_converter *cv);

#endif
