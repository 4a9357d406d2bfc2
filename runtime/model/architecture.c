#include "model/architecture.h"

#include <string.h>

typedef void (*build_fn)(cdl_graph *g, cdl_config *c);

static build_fn find(const char *type)
{
    static const struct { const char *type; build_fn build; } known[] = {
#define X(type, symbol) { type, cdl_build_##symbol },
#include "model/architectures.def"
#undef X
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(known[i].type, type))
            return known[i].build;
    return NULL;
}

const char *cdl_architecture_name(const cdl_checkpoint *c)
{
    return cdl_json_string(cdl_json_get(cdl_checkpoint_config(c), "model_type"), "");
}

cuddle_status cdl_architecture_build(cdl_graph *g, const cdl_checkpoint *c)
{
    static const char known[] =
#define X(type, symbol) " " type
#include "model/architectures.def"
#undef X
        ;
    *g = (cdl_graph){ 0 };
    const char *type = cdl_architecture_name(c);
    build_fn build = find(type);
    if (!build)
        return cdl_status_fail(CUDDLE_ERR_UNSUPPORTED, "%s: architecture %s is not known; known are:%s",
                cdl_checkpoint_folder(c), *type ? type : "(config.json has no model_type)", known);
    cdl_config config = cdl_config_of(c);
    build(g, &config);
    cuddle_status st = config.status != CUDDLE_OK ? config.status : cdl_graph_status(g);
    if (st != CUDDLE_OK)
        cdl_graph_free(g);
    return st;
}
