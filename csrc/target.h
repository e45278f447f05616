/* Opens and closes a region of functions compiled for one instruction set, so that the build needs no flags.
 *
 *     #define TARGET "avx2,fma"
 *     #include "target.h"     opens it
 *     ...
 *     #include "target.h"     closes it
 */
#ifndef TARGET_OPEN
#define TARGET_OPEN
#define TARGET_PRAGMA_(text) _Pragma(#text)
#define TARGET_PRAGMA(text) TARGET_PRAGMA_(text)
#if defined(__clang__)
TARGET_PRAGMA(clang attribute push(__attribute__((target(TARGET))), apply_to = function))
#else
_Pragma("GCC push_options") TARGET_PRAGMA(GCC target(TARGET))
#endif
#else
#if defined(__clang__)
_Pragma("clang attribute pop")
#else
_Pragma("GCC pop_options")
#endif
#undef TARGET_OPEN
#undef TARGET
#endif
