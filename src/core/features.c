/* What this library was built with. */
#include "slope/context.h"

const char *sl_features(void)
{
    return ""
#ifdef SLOPE_ZLIB
           " zlib"
#endif
#ifdef SLOPE_CURL
           " curl"
#endif
#ifdef SLOPE_CUDA
           " cuda"
#endif
        ;
}
