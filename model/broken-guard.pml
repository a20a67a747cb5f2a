/* Breaks nobody_elses: the spare name is guarded by the lock on the stale file,
 * and not any more when that has been given up: then it may be another's. */
#define SPARE_UNGUARDED
#define USERS 2
#define ONLY P_nobody_elses
#include "acquire.pml"
