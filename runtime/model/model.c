#include "model/model.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "hub/hub.h"
#include "model/architecture.h"
#include "model/chat_load.h"
#include "model/sampling_config.h"
#include "model/tokenizer_load.h"

enum { ENDS_MAX = 16 };

struct cuddle_model {
    char *path;
    cdl_checkpoint *checkpoint;
    int32_t ends[ENDS_MAX];            /* tokens that end a text */
    uint32_t n_ends;
    pthread_mutex_t lock;              /* of the two below       */
    cuddle_tokenizer *tokenizer;
    cuddle_chat_template *chat;
};

const cdl_checkpoint *cdl_model_checkpoint(const cuddle_model *m)
{
    return m->checkpoint;
}

static void add_end(cuddle_model *m, const cdl_json *v)
{
    int64_t id = cdl_json_int(v, -1);
    if (id >= 0 && id <= INT32_MAX && m->n_ends < ENDS_MAX)
        m->ends[m->n_ends++] = (int32_t)id;
}

/* eos_token_id is a number or a list. */
static void read_ends(cuddle_model *m, const cdl_json *config)
{
    const cdl_json *eos = cdl_json_get(config, "eos_token_id");
    if (eos && eos->type == CDL_JSON_ARRAY)
        for (size_t i = 0; i < eos->n; i++)
            add_end(m, cdl_json_at(eos, i));
    else
        add_end(m, eos);
}

cuddle_status cuddle_model_open(cuddle_model **out, const char *name)
{
    *out = NULL;
    cuddle_model *m = cdl_mem_zalloc(1, sizeof *m);
    if (!m)
        return cdl_status_nomem("the model");
    pthread_mutex_init(&m->lock, NULL);
    cuddle_status st = cdl_hub_resolve(&m->path, name);
    if (st == CUDDLE_OK)
        st = cdl_checkpoint_open(&m->checkpoint, m->path, false);
    if (st != CUDDLE_OK) {
        cuddle_model_close(m);
        return st;
    }
    read_ends(m, cdl_checkpoint_generation_config(m->checkpoint));
    if (!m->n_ends)
        read_ends(m, cdl_checkpoint_config(m->checkpoint));
    *out = m;
    return CUDDLE_OK;
}

void cuddle_model_close(cuddle_model *m)
{
    if (!m)
        return;
    cuddle_tokenizer_close(m->tokenizer);
    cuddle_chat_template_close(m->chat);
    cdl_checkpoint_close(m->checkpoint);
    pthread_mutex_destroy(&m->lock);
    cdl_mem_free(m->path);
    cdl_mem_free(m);
}

/* A size of config.json under one of its names; 0 when there is none. */
static uint32_t size_of(const cdl_json *c, const char *name, const char *other)
{
    int64_t n = cdl_json_int(cdl_json_get(c, name), -1);
    if (n < 0 && other)
        n = cdl_json_int(cdl_json_get(c, other), -1);
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

static uint64_t count_parameters(const cdl_checkpoint *c)
{
    uint64_t n = 0;
    for (size_t i = 0; i < cdl_checkpoint_count(c); i++) {
        const cdl_tensor_entry *t = cdl_checkpoint_at(c, i);
        uint64_t elements = 1;
        for (uint32_t d = 0; d < t->ndim; d++)
            elements *= (uint64_t)t->dim[d];
        n += elements;
    }
    return n;
}

void cuddle_model_describe(const cuddle_model *m, cuddle_model_facts *out)
{
    const cdl_json *c = cdl_checkpoint_config(m->checkpoint), *text = cdl_json_get(c, "text_config");
    const char *name = cdl_architecture_name(m->checkpoint);
    if (!cdl_json_none(text))
        c = text;
    cuddle_model_facts f = {
        .size = sizeof f, .architecture = name, .path = m->path,
        .parameters = count_parameters(m->checkpoint), .bytes = cdl_checkpoint_bytes(m->checkpoint),
        .vocab = size_of(c, "vocab_size", NULL), .hidden = size_of(c, "hidden_size", "n_embd"),
        .layers = size_of(c, "num_hidden_layers", "n_layer"), .heads = size_of(c, "num_attention_heads", "n_head"),
        .context_max = size_of(c, "max_position_embeddings", "n_positions") };
    f.kv_heads = size_of(c, "num_key_value_heads", NULL);
    f.head_dim = size_of(c, "head_dim", NULL);
    if (!f.kv_heads)
        f.kv_heads = f.heads;
    if (!f.head_dim && f.heads)
        f.head_dim = f.hidden / f.heads;
    size_t size = out->size && out->size < sizeof f ? out->size : sizeof f;
    memcpy(out, &f, size);
    out->size = size;
}

cuddle_status cuddle_model_tokenizer(cuddle_model *m, const cuddle_tokenizer **out)
{
    pthread_mutex_lock(&m->lock);
    cuddle_status st = m->tokenizer ? CUDDLE_OK : cdl_tokenizer_load(&m->tokenizer, m->checkpoint);
    *out = m->tokenizer;
    pthread_mutex_unlock(&m->lock);
    return st;
}

cuddle_status cuddle_model_chat_template(cuddle_model *m, const cuddle_chat_template **out)
{
    pthread_mutex_lock(&m->lock);
    cuddle_status st = m->chat ? CUDDLE_OK : cdl_chat_load(&m->chat, m->checkpoint, NULL);
    *out = m->chat;
    pthread_mutex_unlock(&m->lock);
    return st;
}

cuddle_status cuddle_model_use_chat_template(cuddle_model *m, const char *path)
{
    pthread_mutex_lock(&m->lock);
    cuddle_status st = m->chat
        ? cdl_status_fail(CUDDLE_ERR_ARG, "%s: the model's chat template is in use already", path)
        : cdl_chat_load(&m->chat, m->checkpoint, path);
    pthread_mutex_unlock(&m->lock);
    return st;
}

void cuddle_model_sampling(const cuddle_model *m, cuddle_sampling *out)
{
    cdl_sampling_from_config(out, cdl_checkpoint_generation_config(m->checkpoint));
}

bool cuddle_model_is_end(const cuddle_model *m, int32_t token)
{
    for (uint32_t i = 0; i < m->n_ends; i++)
        if (m->ends[i] == token)
            return true;
    return false;
}
