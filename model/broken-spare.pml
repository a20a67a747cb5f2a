/* Breaks nobody_elses: the spare name is guarded by the lock of the path's file,
 * and not any more when that has gone: then it may be another holder's. */
#define SPARE_LAST
#define USERS 2
#define CRASHES 1
#define RECORDS 1
#define ONLY P_nobody_elses
#include "acquire.pml"
