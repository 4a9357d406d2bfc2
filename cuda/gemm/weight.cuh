/* weight.cuh - packed weights of every type (README.md): a tile's fields, its codes as exact 16-bit numbers, its
 * scales as f32. */
#ifndef CDL_WEIGHT_CUH
#define CDL_WEIGHT_CUH

#include "../numbers.cuh"

/* How the groups of a row of 64 columns are scaled. */
enum scaling {
    SCALE_NONE,      /* dense                                                         */
    SCALE_F16,       /* groups of 32: d                                               */
    SCALE_F16_MIN,   /* groups of 32: d, m                                            */
    SCALE_F16_ZERO,  /* groups of 32, 64 or 128: d, and the code of zero                */
    SCALE_E8M0,      /* groups of 32: power of two                                    */
    SCALE_I8_32,     /* groups of 32: i8, times d of 256                              */
    SCALE_I8_16,     /* groups of 16: i8, times d of 256                              */
    SCALE_U8_MIN_32, /* groups of 32: u8 and u8, times d and -dmin of 256             */
    SCALE_U4_MIN_16  /* groups of 16: u4 and u4, times d and -dmin of 256             */
};

/* PLANES: bits 1, 2, 4, 8, 16 are the planes that make a code, the lowest bits in the widest plane but 1 above 2.
 * ZERO is subtracted. TABLE: 0, or 1 iq4's, 2 mxfp4's values by 4-bit code. */
template <int PLANES_, int ZERO_, int TABLE_, scaling SCALING_, int GROUP = 32> struct format {
    static constexpr int PLANES = PLANES_, ZERO = ZERO_, TABLE = TABLE_;
    static constexpr scaling SCALING = SCALING_;
    static constexpr bool DENSE = SCALING == SCALE_NONE;      /* row-major, all others in tiles       */
    static constexpr bool SUPER = SCALING >= SCALE_I8_32;     /* super-blocks of 256                  */
    static constexpr bool WIDE = SUPER || GROUP == 128;       /* tiles of 256 or 128 columns, else 64 */
    static constexpr bool HAS_MIN = SCALING == SCALE_F16_MIN || SCALING >= SCALE_U8_MIN_32;
    static constexpr bool SMALL = SCALING == SCALE_I8_16 || SCALING == SCALE_U4_MIN_16;
    static constexpr int GROUPS = SMALL ? 4 : GROUP == 32 ? 2 : 1; /* of 64 columns                   */
    static constexpr int SUBS = SUPER ? 4 : WIDE ? 2 : 1, COLUMNS = 64 * SUBS;
    static constexpr int MAIN_BYTES = !WIDE ? 0 : SCALING >= SCALE_U8_MIN_32 || !SUPER ? 64 : 32;
    static constexpr int SCALE_BYTES = SCALING == SCALE_NONE || GROUP == 128              ? 0
                                     : SCALING == SCALE_F16_ZERO                          ? GROUPS * 64
                                     : SCALING == SCALE_F16_MIN                           ? 128
                                     : SCALING == SCALE_E8M0 || SCALING == SCALE_I8_32    ? 32
                                                                                          : 64;
    static constexpr int SUB_BYTES = SCALE_BYTES + PLANES * 128;
    static constexpr int TILE_BYTES = MAIN_BYTES + SUBS * SUB_BYTES;
    static constexpr int PART_BYTES = MAIN_BYTES + SUB_BYTES; /* what 64 columns need                 */
    static constexpr int STAGES = (int)cdl_linear_stages(TILE_BYTES);          /* of a decoding warp  */
    static constexpr int FEW = (int)cdl_linear_few(TILE_BYTES, COLUMNS);       /* tokens of its block */
};

typedef format<16, 0, 0, SCALE_NONE> format_dense;
typedef format<4, 8, 0, SCALE_F16> format_q4_0;
typedef format<4, 0, 0, SCALE_F16_MIN> format_q4_1;
typedef format<5, 16, 0, SCALE_F16> format_q5_0;
typedef format<5, 0, 0, SCALE_F16_MIN> format_q5_1;
typedef format<8, 0, 0, SCALE_F16> format_q8_0;
typedef format<2, 0, 0, SCALE_U4_MIN_16> format_q2_k;
typedef format<3, 4, 0, SCALE_I8_16> format_q3_k;
typedef format<4, 0, 0, SCALE_U8_MIN_32> format_q4_k;
typedef format<5, 0, 0, SCALE_U8_MIN_32> format_q5_k;
typedef format<6, 32, 0, SCALE_I8_16> format_q6_k;
typedef format<4, 0, 1, SCALE_F16> format_iq4_nl;
typedef format<4, 0, 1, SCALE_I8_32> format_iq4_xs;
typedef format<4, 0, 2, SCALE_E8M0> format_mxfp4;
typedef format<4, 0, 0, SCALE_F16_ZERO, 32> format_i4_g32;
typedef format<4, 0, 0, SCALE_F16_ZERO, 64> format_i4_g64;
typedef format<4, 0, 0, SCALE_F16_ZERO, 128> format_i4_g128;

/* ---- Codes ---- */

/* Where a piece of 16 bytes stands in rows of 64 columns of 16 bits in shared memory: 8-byte reads of 4 lanes a row, 8
 * rows at a time, meet no bank twice. */
__device__ __forceinline__ uint32_t swizzled(uint32_t row, uint32_t piece)
{
    return row * 128 + (piece ^ (row & 3) << 1) * 16;
}

/* What a lane holds of a row of 64 columns: its part of each plane. */
template <typename F> struct planes {
    uint4 wide[F::PLANES & 16 ? 4 : F::PLANES & 8 ? 2 : 1]; /* of the plane of 16, 8 or 4 bits */
    uint2 two;
    uint32_t one;

    /* p: the first plane of the sub-tile; of dense weights 16 swizzled rows. */
    __device__ __forceinline__ void load(const uint8_t *p, int lane)
    {
        constexpr int N = F::PLANES & 8 ? 2 : F::PLANES & 4 ? 1 : 0;
        if constexpr (F::DENSE) {
#pragma unroll
            for (int s = 0; s < 4; s++) {
                const uint8_t *at = p + swizzled(lane / 4, 2 * s + lane % 4 / 2) + lane % 2 * 8;
                const uint2 low = *(const uint2 *)at, high = *(const uint2 *)(at + 8 * 128);
                wide[s] = make_uint4(low.x, high.x, low.y, high.y);
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++)
            wide[i] = *(const uint4 *)(p + i * 512 + lane * 16);
        if (F::PLANES & 2)
            two = *(const uint2 *)(p + N * 512 + lane * 8);
        if (F::PLANES & 1)
            one = *(const uint32_t *)(p + N * 512 + (F::PLANES & 2 ? 256 : 0) + lane * 4);
    }
};

__device__ __forceinline__ uint32_t word(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/* Codes are put into the mantissa of a power of two whose last place is 1: 128 (codes below 128), or 1024; then that
 * power, and the type's ZERO or the group's, are taken off. Exact in 16 bits. */
template <typename T> struct small {
    static constexpr uint32_t BASE = 0x64006400u;

    template <int ZERO> static __device__ __forceinline__ uint32_t of(uint32_t v)
    {
        return sub_f16(v, (0x6400u | ZERO) * 0x10001u);
    }
    static __device__ __forceinline__ uint32_t less(uint32_t v, uint32_t zeros) { return sub_f16(v, BASE | zeros); }
};
template <> struct small<bf16> {
    static constexpr uint32_t BASE = 0x43004300u;

    template <int ZERO> static __device__ __forceinline__ uint32_t of(uint32_t v)
    {
        return add_bf16(v, (0xc300u | ZERO) * 0x10001u);
    }
    static __device__ __forceinline__ uint32_t less(uint32_t v, uint32_t zeros)
    {
        return add_bf16(v, 0xc300c300u | zeros);
    }
};

/* The values of four 4-bit codes, one in each byte. */
template <int TABLE> __device__ __forceinline__ uint32_t look_up(uint32_t codes)
{
    constexpr uint32_t A = TABLE == 1 ? 0xbfad9881u : 0x03020100u, B = TABLE == 1 ? 0xf6eaddcfu : 0x0c080604u;
    constexpr uint32_t C = TABLE == 1 ? 0x26190d01u : 0xfdfeff00u, D = TABLE == 1 ? 0x71594535u : 0xf4f8fafcu;
    const uint32_t at = codes & 0x07070707u;
    const uint32_t select = (at | at >> 4) & 0x00ff00ffu;
    const uint32_t nibbles = (select | select >> 8) & 0xffffu;
    const uint32_t low = __byte_perm(A, B, nibbles), high = __byte_perm(C, D, nibbles);
    const uint32_t mask = (codes >> 3 & 0x01010101u) * 255u;
    return (low & ~mask) | (high & mask);
}

/* ---- Scales ---- */

/* 2^23 + byte i of v. */
__device__ __forceinline__ float lifted_byte(uint32_t v, int i)
{
    return __uint_as_float(__byte_perm(v, 0x4b000000u, 0x7650 + i));
}

/* Of rows g and g + 8: weight = scale * (code - zero) + min. */
template <typename F> struct scales {
    float scale[2][F::GROUPS], min[2][F::HAS_MIN ? F::GROUPS : 1];
    uint32_t zero[2][F::GROUPS];     /* SCALE_F16_ZERO: the code of zero, twice */

    /* main: the tile's first byte; sub: the sub-tile's. */
    __device__ __forceinline__ void load(const uint8_t *main, const uint8_t *sub, int g)
    {
        load_main(main, g);
        load_sub(sub, g);
    }

    __device__ __forceinline__ void load_main(const uint8_t *main, int g)
    {
        if (F::SCALING == SCALE_F16_ZERO) {
            if (F::WIDE)
                load_zero<1>(main, g);
        } else if (F::SCALING == SCALE_I8_32 || F::SCALING == SCALE_I8_16) {
            const float2 f = unpack2<f16>(*(const uint32_t *)(main + g * 4));
            d[0] = f.x, d[1] = f.y;
        } else if (F::WIDE) {
            const uint2 v = *(const uint2 *)(main + g * 8);
            const float2 a = unpack2<f16>(v.x), b = unpack2<f16>(v.y);
            d[0] = a.x, d[1] = b.x, dmin[0] = -a.y, dmin[1] = -b.y;
        }
    }

    /* After load_main of its tile. */
    __device__ __forceinline__ void load_sub(const uint8_t *sub, int g)
    {
        if (F::SCALING == SCALE_F16)
            load_f16(*(const uint2 *)(sub + g * 8));
        else if (F::SCALING == SCALE_F16_MIN)
            load_f16_min(*(const uint4 *)(sub + g * 16));
        else if (F::SCALING == SCALE_F16_ZERO && !F::WIDE)
            load_zero<F::GROUPS>(sub, g);
        else if (F::SCALING == SCALE_F16_ZERO)
            return;
        else if (F::SCALING == SCALE_E8M0)
            load_e8m0(*(const uint32_t *)(sub + g * 4));
        else if (F::SCALING == SCALE_I8_32)
            load_i8(make_uint2(*(const uint32_t *)(sub + g * 4), 0));
        else if (F::SCALING == SCALE_I8_16)
            load_i8(*(const uint2 *)(sub + g * 8));
        else if (F::SCALING != SCALE_NONE)
            load_min(*(const uint2 *)(sub + g * 8));
    }

private:
    float d[2], dmin[2]; /* of the tile */

    __device__ __forceinline__ void load_f16(uint2 v)
    {
        const float2 a = unpack2<f16>(v.x), b = unpack2<f16>(v.y);
        scale[0][0] = a.x, scale[0][1] = a.y, scale[1][0] = b.x, scale[1][1] = b.y;
    }

    __device__ __forceinline__ void load_f16_min(uint4 v)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 f = unpack2<f16>(word(v, i));
            scale[i / 2][i % 2] = f.x;
            min[i / 2][F::HAS_MIN ? i % 2 : 0] = f.y;
        }
    }

    /* N groups: of each f16 d, u16 zero, [g][half][group]. */
    template <int N> __device__ __forceinline__ void load_zero(const uint8_t *p, int g)
    {
#pragma unroll
        for (int i = 0; i < 2 * N; i++) {
            const uint32_t v = ((const uint32_t *)p)[g * 2 * N + i];
            scale[i / N][i % N] = unpack2<f16>(v).x;
            zero[i / N][i % N] = __byte_perm(v, 0, 0x3232);
        }
    }

    /* Halved, as the table's values are doubled. */
    __device__ __forceinline__ void load_e8m0(uint32_t v)
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t e = v >> 8 * i & 255;
            scale[i / 2][i % 2] = __uint_as_float(e < 2 ? 0x00200000u << e : (e - 1) << 23);
        }
    }

    __device__ __forceinline__ void load_i8(uint2 v)
    {
        const uint2 u = make_uint2(v.x ^ 0x80808080u, v.y ^ 0x80808080u);
#pragma unroll
        for (int i = 0; i < F::GROUPS; i++) {
            scale[0][i] = d[0] * (lifted_byte(u.x, i) - 8388736.0f);
            scale[1][i] = d[1] * ((F::SMALL ? lifted_byte(u.y, i) : lifted_byte(u.x, i + 2)) - 8388736.0f);
        }
    }

    /* d * byte, exactly: d * 2^23 is exact, and so is the product. */
    __device__ __forceinline__ void load_min(uint2 v)
    {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint32_t w = half ? v.y : v.x, s = F::SMALL ? w & 0x0f0f0f0fu : w;
            const uint32_t m = F::SMALL ? w >> 4 & 0x0f0f0f0fu : w >> 8;
            const float less = d[half] * -8388608.0f, less_min = dmin[half] * -8388608.0f;
#pragma unroll
            for (int i = 0; i < F::GROUPS; i++) {
                const int at = F::SMALL ? i : 2 * i;
                scale[half][i] = fmaf(d[half], lifted_byte(s, at), less);
                min[half][F::HAS_MIN ? i : 0] = fmaf(dmin[half], lifted_byte(m, at), less_min);
            }
        }
    }
};

/* The A fragment of step s of 16 columns: codes as numbers, not yet scaled. */
template <typename F, typename T>
__device__ __forceinline__ void fragment(uint32_t (&a)[4], const planes<F> &p, const scales<F> &by, int s)
{
    if (F::DENSE) {
        const uint4 &v = p.wide[F::DENSE ? s : 0];
        a[0] = v.x, a[1] = v.y, a[2] = v.z, a[3] = v.w;
    } else if (F::PLANES & 8) {
        const uint4 &v = p.wide[F::PLANES & 8 ? s / 2 : 0];
        byte_numbers<T>(word(v, s % 2 * 2), &a[0], &a[2]);
        byte_numbers<T>(word(v, s % 2 * 2 + 1), &a[1], &a[3]);
    } else if (F::TABLE) {
        const uint32_t w = word(p.wide[0], s);
        byte_numbers<T>(look_up<F::TABLE>(__byte_perm(w & 0x0f0f0f0fu, w >> 8 & 0x0f0f0f0fu, 0x6420)), &a[0], &a[2]);
        byte_numbers<T>(look_up<F::TABLE>(__byte_perm(w >> 4 & 0x0f0f0f0fu, w >> 12 & 0x0f0f0f0fu, 0x6420)), &a[1],
            &a[3]);
    } else {
        constexpr int SECOND = F::PLANES & 4 ? 4 : 0, FIRST = F::PLANES & 4 ? 4 : 2; /* where the planes of 2, 1 go */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t v = small<T>::BASE;
            if (F::PLANES & 4)
                v = bits_or(word(p.wide[0], s) >> 4 * i, 0x000f000fu, v);
            if (F::PLANES & 2)
                v = bits_or(shifted(s < 2 ? p.two.x : p.two.y, s % 2 * 8 + 2 * i - SECOND), 0x00030003u << SECOND, v);
            if (F::PLANES & 1)
                v = bits_or(shifted(p.one, 4 * s + i - FIRST), 0x00010001u << FIRST, v);
            if (F::SCALING == SCALE_F16_ZERO)
                a[i] = small<T>::less(v, by.zero[i % 2][s * F::GROUPS / 4]);
            else
                a[i] = small<T>::template of<F::ZERO>(v);
        }
    }
}

#endif
