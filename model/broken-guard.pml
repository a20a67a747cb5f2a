/* Breaks only_ours: the spare name is guarded by the lock on the stale file,
 * and not any more when that has been given up: then it may be another's. */
#define SPARE_UNGUARDED
#define USERS 2
#define ONLY P_only_ours
#include "acquire.pml"
