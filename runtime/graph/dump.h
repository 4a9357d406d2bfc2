/* dump.h - CUDDLE_DUMP: every node's output of every step as safetensors files, for bisection.
 *
 * FOLDER/step-00000.safetensors, ... hold one f32 tensor [rows, cols] a node, named as Hugging Face
 * names the module. Slow and large: a debugging aid. Read first: run.h. */
#ifndef CDL_DUMP_H
#define CDL_DUMP_H

#include "format/safetensors_write.h"
#include "graph/graph.h"

typedef struct {
    const char *folder;            /* NULL: off                              */
    uint32_t step;
    cdl_safetensors_item *items;   /* [nodes]                                */
    cdl_safetensors_writer file;
} cdl_dump;

/* Off when CUDDLE_DUMP is unset. Errors: IO (no such folder, and it cannot be made), NOMEM. */
CUDDLE_CHECK cuddle_status cdl_dump_open(cdl_dump *d, const cdl_graph *g);
void cdl_dump_close(cdl_dump *d);

/* Around each step; calls [nodes] tell the rows of each output. */
CUDDLE_CHECK cuddle_status cdl_dump_begin(cdl_dump *d, const cdl_graph *g, const cdl_call *calls);
void cdl_dump_node(cdl_dump *d, uint32_t node, const cdl_view *out);
CUDDLE_CHECK cuddle_status cdl_dump_end(cdl_dump *d);

#endif
