#define _GNU_SOURCE /* syscall */
#include "cpu.h"

bool lstmrt_cpu_always(void) { return true; }

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>

/* Bits as Intel's Software Developer's Manual names them: volume 2A, CPUID; volume 1, 13.2 for XCR0. */
enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF1_ECX_AVX = 1 << 28,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512F = 1 << 16,
    LEAF7_EBX_AVX512DQ = 1 << 17,
    LEAF7_EBX_AVX512BW = 1 << 30,
    LEAF7_ECX_AVX512VNNI = 1 << 11,
    LEAF7_EDX_AMX_TILE = 1 << 24,
    LEAF7_EDX_AMX_INT8 = 1 << 25,
    LEAF7_1_EAX_AVX512BF16 = 1 << 5,
    XCR0_YMM = 1 << 1 | 1 << 2,
    XCR0_ZMM = XCR0_YMM | 1 << 5 | 1 << 6 | 1 << 7, /* opmasks, upper halves of zmm0-15, zmm16-31 */
    XCR0_TILES = 1 << 17 | 1 << 18, /* configuration and data */
};

static const uint32_t LEAF7_EBX_AVX512VL = UINT32_C(1) << 31;

static bool has_all(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

/* Needs OSXSAVE. The instruction by its bytes, since the assembler takes `xgetbv` only in an XSAVE target region. */
static uint32_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile(".byte 0x0f, 0x01, 0xd0" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Whether leaf 1 has `leaf1_ecx`, leaf 7 has `leaf7_ebx`, and the system saves the registers `saved`. */
static bool supports(uint32_t leaf1_ecx, uint32_t leaf7_ebx, uint32_t saved)
{
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !has_all(ecx, leaf1_ecx | LEAF1_ECX_OSXSAVE)) return false;
    if (!has_all(xcr0(), saved)) return false;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && has_all(ebx, leaf7_ebx);
}

bool lstmrt_cpu_has_avx2(void) { return supports(LEAF1_ECX_AVX | LEAF1_ECX_FMA, LEAF7_EBX_AVX2, XCR0_YMM); }

bool lstmrt_cpu_has_avx512(void)
{
    uint32_t needed = LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL;
    return lstmrt_cpu_has_avx2() && supports(LEAF1_ECX_AVX, needed, XCR0_ZMM);
}

bool lstmrt_cpu_has_avx512_vnni(void)
{
    uint32_t eax, ebx, ecx, edx;
    return lstmrt_cpu_has_avx512() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           has_all(ecx, LEAF7_ECX_AVX512VNNI);
}

bool lstmrt_cpu_has_avx512_bf16(void)
{
    uint32_t eax, ebx, ecx, edx;
    return lstmrt_cpu_has_avx512_vnni() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) &&
           has_all(eax, LEAF7_1_EAX_AVX512BF16);
}

#if LSTMRT_AMX

#include <sys/syscall.h>
#include <unistd.h>

/* Linux makes room for the tiles of a process that asks, for good, in all its threads and in children of fork. */
static bool gets_tiles(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

bool lstmrt_cpu_has_amx(void)
{
    uint32_t eax, ebx, ecx, edx;
    return lstmrt_cpu_has_avx512_bf16() && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) &&
           has_all(edx, LEAF7_EDX_AMX_TILE | LEAF7_EDX_AMX_INT8) && has_all(xcr0(), XCR0_TILES) && gets_tiles();
}

#endif

#elif defined(__aarch64__)

#if defined(__linux__)
#include <sys/auxv.h>
#endif

bool lstmrt_cpu_has_neon_dot(void)
{
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#elif defined(__APPLE__)
    return true; /* all processors that run macOS */
#else
    return false;
#endif
}

#endif
