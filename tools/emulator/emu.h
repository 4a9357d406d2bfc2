/* emu.h - the virtual GPU's inner contract: modules, instructions, warps, launches.
 *
 * A module is decoded once (ptx.c, decode.c, slots.c) into an array of instructions per kernel; a launch
 * (launch.c) runs its CTAs one after the other, each warp of 32 lanes at once (exec_body.inc, flow.c).
 * Registers are rows of 32 lanes: 128 bytes for up to 32 bits, 256 bytes for 64 bits, one word of 32 bits
 * for a predicate. Memory is the host's: device addresses are host addresses inside the device's arena.
 */
#ifndef EMU_H
#define EMU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { LANES = 32, WARPS_MAX = 64, FRAGMENTS_MAX = 33, BARRIERS = 16, OPERANDS_MAX = 12 };
enum { BACKWARD_BUDGET = 4096 };    /* branches back before other lanes and warps get a turn */
#define FULL 0xffffffffu

/* Windows of the generic address space, far from what the host maps. */
#define SHARED_WINDOW 0x7000000000000000ull
#define LOCAL_WINDOW 0x7100000000000000ull
#define PARAM_WINDOW 0x7200000000000000ull
#define WINDOW_MASK 0xff00000000000000ull

typedef struct emu_warp emu_warp;
typedef struct emu_insn emu_insn;
typedef struct emu_kernel emu_kernel;
typedef struct emu_module emu_module;
typedef struct emu_device emu_device;
typedef struct emu_cta emu_cta;
typedef struct emu_launch emu_launch;
typedef void (*emu_op)(emu_warp *w, const emu_insn *i, uint32_t m);

enum {
#define OP(name) OP_##name,
#include "ops.def"
#undef OP
    OP_COUNT
};

enum emu_class { CLASS_PRED, CLASS_32, CLASS_64 };
enum emu_space { SPACE_GENERIC, SPACE_GLOBAL, SPACE_SHARED, SPACE_LOCAL, SPACE_PARAM };
enum emu_flag { FLAG_FTZ = 1, FLAG_SAT = 2, FLAG_NEG = 4, FLAG_STRONG = 8, FLAG_RELEASE = 16 };
enum emu_compare { CMP_EQ, CMP_NE, CMP_LT, CMP_LE, CMP_GT, CMP_GE, CMP_UNORDERED = 8, CMP_NUM = 16, CMP_NAN = 17 };
enum emu_atom { ATOM_ADD, ATOM_MIN, ATOM_MAX, ATOM_AND, ATOM_OR, ATOM_XOR, ATOM_EXCH, ATOM_CAS, ATOM_INC, ATOM_DEC };

/* One decoded instruction; o[] are byte offsets into the warp's register file. */
struct emu_insn {
    emu_op fn;
    uint32_t pred, negate;      /* lanes = active & (pred ^ negate)                 */
    uint32_t o[OPERANDS_MAX];   /* destination first, then sources; see decode.c    */
    int64_t imm;
    uint32_t target;            /* of a branch: index of an instruction             */
    uint32_t extra;             /* LUT, second offset, index into the kernel's mma  */
    uint32_t line;
    uint16_t op;
    uint8_t flow;               /* the run loop continues at w->next                */
    uint8_t sub, n, size, flags, space;
    uint8_t is_signed, is_float, wide_address, wide_data, has_pred_dst, count;
};

enum emu_mma_type { MMA_F16, MMA_BF16, MMA_TF32, MMA_S8, MMA_U8, MMA_E4M3, MMA_E5M2 };
typedef struct {
    uint32_t d[4], a[4], b[2], c[4];
    uint8_t na, nb, nd, a_type, b_type, f16_sum, k;
} emu_mma;

/* wgmma: 16 rows of A, from registers or by a descriptor, and 8 * columns of B by a descriptor. Slots, but for d. */
typedef struct {
    uint32_t d[128], a[4], a_at, b_at, add;
    uint8_t columns, type, a_in_shared;
} emu_wgmma;

enum { SPECIAL_COUNT = 22 };
struct emu_kernel {
    char *name;
    emu_module *module;
    emu_insn *code;
    const char **opcode;        /* the text of each instruction's opcode, for the mix */
    uint32_t count, capacity;
    emu_mma *mma;
    uint32_t mma_count;
    emu_wgmma *wgmma;
    uint32_t wgmma_count, wgmma_rows;   /* rows: 6 of the register file for operands  */
    uint32_t reg_bytes;         /* a warp's register file                           */
    uint32_t true_slot;
    uint32_t special[SPECIAL_COUNT];  /* slots of %tid.x ...; 0 = not used          */
    struct emu_constant { uint32_t slot; uint8_t cls; uint64_t value; } *constant;
    uint32_t constant_count;
    struct emu_param { uint32_t offset, size; } *param;
    uint32_t param_count, param_bytes;
    uint32_t shared_bytes, local_bytes;
    uint32_t regs_estimate, threads_max;
    int dynamic_shared_max;     /* attribute; -1: the default limit                 */
};

/* Decodes PTX text. On error returns NULL and leaves a line in err. */
emu_module *emu_module_new(emu_device *dev, const char *text, char *err, size_t err_size);
void emu_module_free(emu_module *m);
emu_kernel *emu_module_kernel(emu_module *m, const char *name);
bool emu_module_global(emu_module *m, const char *name, uint64_t *address, size_t *bytes);

/* ---- devices and their memory (memory.c) ---- */
enum emu_checks { CHECKS_OFF, CHECKS_CHEAP, CHECKS_ALL };
enum emu_fault { FAULT_NONE, FAULT_ADDRESS, FAULT_MISALIGNED, FAULT_UNINITIALISED, FAULT_RACE, FAULT_BARRIER,
    FAULT_SYNC, FAULT_DEADLOCK, FAULT_TRAP, FAULT_COUNT };

struct emu_device {
    int index;
    uint64_t base, bytes;       /* window of the arena                              */
    uint64_t top;               /* end of what was ever handed out                  */
    uint64_t used, limit;       /* bytes allocated; what the device says it has     */
    uint16_t *valid;            /* per 256-byte granule: bytes of it that are allocated */
    struct emu_lines {          /* who touched what (lines.c); only for CHECKS_ALL  */
        struct emu_line *line;  /* of 64 bytes each                                 */
        uint64_t *init;         /* a bit per byte: was written                      */
        uint32_t *reader, *writer;  /* of each byte, where a line has several       */
        uint64_t *unproxied;        /* a bit per byte: wgmma must not read it yet; or NULL */
        uint32_t *held;             /* rows of it that wgmmas under way read; or NULL      */
    } lines;
    uint64_t *touched[2];       /* a bit per sector: read, written by this launch   */
    uint64_t *by_kernel;        /* a bit per line: a kernel wrote it that may be under way */
    struct emu_block { uint64_t at, bytes; bool live; } *block;
    size_t block_count, block_capacity;
    bool peer[8];
    uint32_t launches;
};

extern enum emu_checks emu_check_level;
int emu_devices_open(void);     /* number of devices, 0 on failure */
emu_device *emu_device_get(int index);
emu_device *emu_device_of(uint64_t address);
uint64_t emu_alloc(emu_device *dev, size_t bytes);
bool emu_free(emu_device *dev, uint64_t address);
bool emu_range_allocated(uint64_t address, size_t bytes);
bool emu_block_find(uint64_t address, uint64_t *base, size_t *bytes);
void emu_mark_written(uint64_t address, size_t bytes);
/* What comes begins when all kernels so far have ended: it may read what they wrote. */
void emu_forget_kernels(void);
bool emu_is_written(uint64_t address, size_t bytes);

/* ---- who touched what (lines.c) ---- */
typedef struct emu_lines emu_lines;
typedef struct emu_line {
    uint32_t phase, reader, writer, atomic;     /* the first, where there are several         */
    uint64_t read, read_more, read_many;        /* by the first, by one other, by several     */
    uint64_t written, written_more, atomics;
} emu_line;
typedef struct { uint64_t line, bytes; } emu_piece;
typedef struct {
    uint32_t phase, id;         /* id from 1                                        */
    uint64_t *acquired;         /* CTAs whose writes are ordered before; or NULL    */
} emu_party;
typedef struct emu_order emu_order;

/* A warp's addresses; lanes that are not in it repeat its first. low, high, any: least, greatest, all bits. */
typedef struct {
    uint64_t a[LANES] __attribute__((aligned(64)));
    uint64_t low, high, any;
    bool dense, uniform;        /* one piece without gaps, in order; all the same   */
} emu_request;

enum emu_access { ACCESS_READ, ACCESS_WRITE, ACCESS_COPY, ACCESS_ATOMIC, ACCESS_STRONG_READ, ACCESS_STRONG_WRITE };
enum { PIECES_MAX = 40 };
uint32_t emu_pieces(const emu_request *q, uint32_t m, uint32_t bytes, uint64_t base, emu_piece *out);
const char *emu_line_touch(emu_lines *t, const emu_party *me, uint64_t n, uint64_t bytes, enum emu_access how,
                           uint64_t *bad);
emu_order *emu_order_new(uint64_t ctas);
void emu_order_free(emu_order *o);
void emu_order_release(emu_order *o, emu_party *me, uint64_t address);
void emu_order_acquire(emu_order *o, emu_party *me, uint64_t address);
bool emu_ordered(const emu_party *me, uint32_t who);

/* ---- running ---- */
typedef struct { uint32_t pc, mask; bool waiting; } emu_fragment;
typedef struct { uint32_t dst, n, src_n, group; uint64_t src; uint32_t line; } emu_copy;
typedef struct {                /* a wgmma under way: it is performed at its wait   */
    const emu_insn *insn;
    uint64_t a_at, b_at;        /* descriptors */
    uint32_t a[4][LANES] __attribute__((aligned(64)));
    uint32_t group;
    bool add;
} emu_product;

struct emu_warp {
    uint8_t *reg;
    const emu_insn *next;       /* set by flow instructions; NULL: leave the loop   */
    uint32_t active, alive, id;
    emu_fragment fragment[FRAGMENTS_MAX];
    uint32_t fragment_count, hold, budget, resume;
    uint32_t waited;            /* lanes that passed griddepcontrol.wait            */
    uint32_t slice;             /* instructions of a run; 0: as many as it can      */
    bool at_barrier, done;
    uint32_t barrier, barrier_count;
    uint64_t executed;
    emu_cta *cta;
    emu_copy *copy;
    size_t copy_count, copy_capacity;
    uint32_t group;
    emu_product *product;
    size_t product_count, product_capacity;
    uint32_t product_group;
    bool product_fenced;        /* wgmma.fence since the last group                 */
    emu_piece *unproxied;       /* written since the last fence.proxy.async         */
    size_t unproxied_count, unproxied_capacity;
    uint8_t *local;
    uint64_t *hits, *lane_hits;
};

struct emu_cta {
    emu_launch *launch;
    uint8_t *shared;
    emu_lines lines;            /* of shared memory; parties are its warps          */
    uint32_t epoch;             /* barriers opened, from 1                          */
    emu_party party;            /* of global memory                                 */
    bool unfenced, wrote;       /* plain writes since the last fence; at all        */
    struct { uint64_t from, to; } known;    /* a range that may be accessed         */
    uint32_t id[3], serial;
    uint32_t arrived[BARRIERS];
    emu_warp warp[WARPS_MAX];
    uint32_t warp_count;
};

typedef struct {
    uint64_t pointer, requests, sectors, bytes, unique, written_sectors, unique_written;
    uint32_t offset;
} emu_operand;

typedef struct {
    emu_operand operand[64];
    uint32_t operand_count;
    uint64_t shared_requests, shared_wavefronts, shared_ideal;
    uint64_t branches, divergent, mma;
} emu_counters;

struct emu_launch {
    emu_kernel *kernel;
    emu_device *device;
    uint32_t grid[3], block[3], dynamic_shared, shared_bytes;
    uint8_t *params;
    enum emu_fault fault;
    uint32_t reports;
    char report[512];
    uint32_t number, phase;     /* of the device's launches; of all, from 1         */
    emu_counters *counters;     /* NULL: not counting                               */
    uint64_t *hits;             /* of each instruction, then of its lanes; or NULL  */
    emu_order *order;           /* NULL unless CHECKS_ALL                           */
    uint64_t ctas, next_cta;
    bool shared_by_threads;
    bool early;                 /* may begin before the launch in front of it ended */
    uint64_t random;            /* 0: CTAs and warps run in order                   */
};

/* pool.c, launch.c: what several threads touch in global memory is locked. */
unsigned emu_pool_threads(void);
void emu_pool_run(void (*work)(void *), void *data, unsigned n);
void emu_lock_take(const emu_launch *l);
void emu_lock_give(const emu_launch *l);

/* Runs the launch to its end; the fault, if any, is in l->fault and l->report. */
void emu_launch_run(emu_launch *l);
void emu_fault(emu_warp *w, const emu_insn *i, int lane, enum emu_fault kind, uint64_t address, const char *what);
bool emu_counters_wanted(void);
void emu_counters_begin(emu_launch *l);
void emu_counters_end(emu_launch *l, const uint64_t *hits, const uint64_t *lane_hits);
void emu_count_global(emu_warp *w, const emu_request *q, uint32_t m, uint32_t bytes, bool write);
void emu_count_shared(emu_warp *w, const emu_request *q, uint32_t m, uint32_t bytes);

/* The lanes of m whose access is allowed (checks.c); faults are reported for the others. */
uint32_t emu_check_global(emu_warp *w, const emu_insn *i, emu_request *q, uint32_t m, uint32_t bytes,
                          enum emu_access how);
uint32_t emu_check_shared(emu_warp *w, const emu_insn *i, emu_request *q, uint32_t m, uint32_t bytes,
                          enum emu_access how);
/* Fills in what follows from the addresses of the lanes in m. */
void emu_request_sum(emu_request *q, uint32_t m, uint32_t bytes);
void emu_shared_begin(emu_warp *w, uint32_t at, uint32_t bytes);
void emu_shared_landed(emu_warp *w, uint32_t at, uint32_t bytes);
/* Row n of 16 columns by a descriptor: 32 bytes from there, halves swapped or not; false: not supported. */
bool emu_matrix_row(uint64_t descriptor, uint32_t n, uint32_t *at, bool *swapped);
bool emu_check_matrix(emu_warp *w, const emu_insn *i, uint64_t descriptor, uint32_t first, uint32_t rows, bool wait);
/* Also turns the offsets in a[] into host pointers. */
uint32_t emu_check_local(emu_warp *w, const emu_insn *i, enum emu_space space, uint64_t *a, uint32_t m,
                         uint32_t bytes);
/* Lanes of an early launch that end, and have not waited for the launch in front. */
void emu_check_waited(emu_warp *w, const emu_insn *i, uint32_t m);
bool emu_check_converged(emu_warp *w, const emu_insn *i, uint32_t m, uint32_t members);

/* flow.c: the instructions that are the same for every CPU */
void emu_flow_bra(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_flow_join(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_flow_ret(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_flow_bar(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_flow_trap(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_flow_release(emu_warp *w);
bool emu_flow_run(emu_warp *w);

/* memory instructions (access.c) */
void emu_op_atom(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_op_fence(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_op_grid_wait(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_copy_add(emu_warp *w, const emu_insn *i, const emu_copy *c);
void emu_op_copy_commit(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_op_copy_wait(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_copy_land(emu_warp *w, uint32_t before_group);
void emu_op_proxy_fence(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_op_wgmma_fence(emu_warp *w, const emu_insn *i, uint32_t m);
void emu_op_wgmma_commit(emu_warp *w, const emu_insn *i, uint32_t m);
emu_product *emu_product_add(emu_warp *w, const emu_insn *i);

extern const emu_op emu_ops_base[OP_COUNT], emu_ops_avx2[OP_COUNT], emu_ops_avx512[OP_COUNT];
const emu_op *emu_ops(void);

static inline uint32_t *emu_u32(emu_warp *w, uint32_t o) { return (uint32_t *)(w->reg + o); }
static inline uint64_t *emu_u64(emu_warp *w, uint32_t o) { return (uint64_t *)(w->reg + o); }
static inline void emu_put_pred(emu_warp *w, uint32_t o, uint32_t bits, uint32_t m)
{
    uint32_t *p = (uint32_t *)(w->reg + o);
    *p = (*p & ~m) | (bits & m);
}
#define EACH_LANE(l, m) for (uint32_t t_ = (m), l = 0; t_ && (l = (uint32_t)__builtin_ctz(t_), 1); t_ &= t_ - 1)

#endif
