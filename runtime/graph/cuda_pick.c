/* cuda_pick.c - tokens picked on the device: samplers' options and lists up, one launch, tokens down. */
#include <string.h>

#include "graph/cuda_call.h"

enum { BIASES = 4096 }; /* in all rows of a step; more are picked by the host */

static uint32_t list_max(const cdl_backend_sizes *s)
{
    return s->spans * s->table_pages * CDL_PAGE_TOKENS;
}

/* Where the next n bytes of a block begin. */
static size_t take(size_t *bytes, size_t n)
{
    size_t at = *bytes;
    *bytes += n;
    return at;
}

cuddle_status cdl_cuda_pick_open(cdl_cuda *c)
{
    const cdl_backend_sizes *s = &c->sizes;
    size_t list = list_max(s), bytes = 0;
    cdl_cuda_lists *l = &c->lists;
    l->rows = take(&bytes, s->spans * sizeof(cdl_sample_row));
    l->bias = take(&bytes, BIASES * sizeof(cdl_sample_bias));
    l->seen = take(&bytes, list * sizeof(cdl_sample_seen));
    l->banned = take(&bytes, list * sizeof(int32_t));
    l->tokens = take(&bytes, s->spans * sizeof(int32_t));
    CDL_TRY(cdl_device_pinned((void **)&l->host, c->device, bytes));
    CDL_TRY(cdl_device_alloc(&l->gpu, c->device, bytes, "the samplers' lists", "use fewer sequences"));
    return cdl_device_alloc(&l->edited, c->device, s->spans * (size_t)s->vocab * sizeof(float), "edited logits",
            "use fewer sequences");
}

void cdl_cuda_pick_close(cdl_cuda *c)
{
    cdl_device_pinned_free(c->device, c->lists.host);
    cdl_device_free(c->device, c->lists.gpu);
    cdl_device_free(c->device, c->lists.edited);
}

/* Entries used of each list. */
typedef struct {
    uint32_t bias, seen, banned;
} used;

/* False when a list is full. */
static bool describe(cdl_cuda *c, const cdl_pick *p, cdl_sample_row *row, used *n)
{
    const cuddle_sampling *o = p->options;
    uint32_t list = list_max(&c->sizes);
    if (o->n_bias > BIASES - n->bias || p->n_seen > list - n->seen || p->n_banned > list - n->banned)
        return false;
    *row = (cdl_sample_row){
        .seed = o->seed, .position = p->position, .top_p = (uint64_t)((double)o->top_p * 0x1p40),
        .inv_temperature = 1 / o->temperature, .min_p = o->min_p, .repetition = o->repetition_penalty,
        .presence = o->presence_penalty, .frequency = o->frequency_penalty, .top_k = o->top_k,
        .greedy = o->mode != CUDDLE_PICK_SAMPLE, .first_bias = n->bias, .n_bias = (uint32_t)o->n_bias,
        .first_seen = n->seen, .n_seen = (uint32_t)p->n_seen, .first_banned = n->banned,
        .n_banned = (uint32_t)p->n_banned };
    cdl_sample_bias *bias = (cdl_sample_bias *)(c->lists.host + c->lists.bias) + n->bias;
    cdl_sample_seen *seen = (cdl_sample_seen *)(c->lists.host + c->lists.seen) + n->seen;
    for (uint32_t i = 0; i < row->n_bias; i++)
        bias[i] = (cdl_sample_bias){ o->bias[i].token, o->bias[i].bias };
    for (uint32_t i = 0; i < row->n_seen; i++)
        seen[i] = (cdl_sample_seen){ p->seen[i], p->count[p->seen[i]] };
    if (row->n_banned)
        memcpy(c->lists.host + c->lists.banned + n->banned * sizeof(int32_t), p->banned,
                row->n_banned * sizeof(int32_t));
    n->bias += row->n_bias;
    n->seen += row->n_seen;
    n->banned += row->n_banned;
    return true;
}

static cuddle_status up(cdl_cuda *c, size_t at, size_t bytes)
{
    return cdl_stream_copy_up(&c->stream, c->lists.gpu + at, c->lists.host + at, bytes);
}

cuddle_status cdl_cuda_pick(cdl_backend *b, const cdl_view *logits, const cdl_pick *picks, int32_t *tokens, bool *done)
{
    cdl_cuda *c = (cdl_cuda *)b;
    const cdl_cuda_lists *l = &c->lists;
    cdl_sample_row *rows = (cdl_sample_row *)(l->host + l->rows);
    used n = { 0, 0, 0 };
    *done = true;
    for (uint32_t i = 0; i < logits->rows && *done; i++)
        *done = describe(c, &picks[i], &rows[i], &n);
    if (!*done)
        return CUDDLE_OK;
    CDL_TRY(up(c, l->rows, logits->rows * sizeof *rows));
    CDL_TRY(up(c, l->bias, n.bias * sizeof(cdl_sample_bias)));
    CDL_TRY(up(c, l->seen, n.seen * sizeof(cdl_sample_seen)));
    CDL_TRY(up(c, l->banned, n.banned * sizeof(int32_t)));
    cdl_sample_args a = {
        .logits = logits->data, .edited = (float *)l->edited, .rows = (const cdl_sample_row *)(l->gpu + l->rows),
        .bias = (const cdl_sample_bias *)(l->gpu + l->bias), .seen = (const cdl_sample_seen *)(l->gpu + l->seen),
        .banned = (const int32_t *)(l->gpu + l->banned), .tokens = (int32_t *)(l->gpu + l->tokens),
        .vocab = logits->cols, .stride = logits->stride };
    cdl_launch launch = { .function = l->kernel->function, .kernel = l->kernel->name, .node = "sampling",
                          .rows = logits->rows, .cols = 1, .grid = { logits->rows, 1, 1 },
                          .threads = CDL_CUDA_SAMPLE_THREADS, .args = &a };
    CDL_TRY(cdl_stream_launch(&c->stream, &launch));
    CDL_TRY(cdl_stream_copy_down(&c->stream, l->host + l->tokens, l->gpu + l->tokens, logits->rows * sizeof *tokens));
    CDL_TRY(cdl_stream_wait(&c->stream));
    memcpy(tokens, l->host + l->tokens, logits->rows * sizeof *tokens);
    return CUDDLE_OK;
}
