#include "gen/engine.h"

bool cdl_pages_take(cdl_page_group *g, int32_t *out)
{
    if (!g->n_free)
        return false;
    uint32_t page = g->free[--g->n_free];
    g->refs[page] = 1;
    *out = (int32_t)page;
    return true;
}

void cdl_pages_share(cdl_page_group *g, int32_t page)
{
    g->refs[page]++;
}

void cdl_pages_release(cdl_page_group *g, int32_t page)
{
    if (--g->refs[page] == 0)
        g->free[g->n_free++] = (uint32_t)page;
}

void cdl_pages_copy(const cuddle_engine *e, uint32_t which, int32_t to, int32_t from)
{
    for (uint32_t i = 0; i < e->state.n_layers; i++) {
        const cdl_state_layer *l = &e->layers[i];
        if (l->group == which)
            e->backend->copy(e->backend, l->base + (size_t)to * l->page_bytes,
                    l->base + (size_t)from * l->page_bytes, l->page_bytes);
    }
}
