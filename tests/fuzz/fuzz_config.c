/* fuzz_config.c - a config.json of any bytes without weights: the graph that it describes, and its fusion. */
#include "file.h"

#include "format/checkpoint.h"
#include "model/architecture.h"
#include "model/sampling_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cdl_checkpoint *c;
    cdl_graph g;
    cuddle_sampling sampling = { .size = sizeof sampling };
    (void)fuzz_file("config.json", data, n);
    if (cdl_checkpoint_open(&c, fuzz_folder(), true) != CUDDLE_OK)
        return 0;
    cdl_sampling_from_config(&sampling, cdl_checkpoint_config(c)); /* the same keys as generation_config.json */
    if (cdl_architecture_build(&g, c) == CUDDLE_OK) {
        if (cdl_graph_fuse(&g, NULL) != CUDDLE_OK)
            abort(); /* a graph that was built can be fused */
        cdl_graph_free(&g);
    }
    cdl_checkpoint_close(c);
    return 0;
}
