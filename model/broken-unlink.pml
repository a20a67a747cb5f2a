/* Breaks only_ours: a holder that unlocks before it unlinks removes the file of
 * the process that has taken the path in between. (A text that names the living
 * process would still keep most out; so it names one that has ended.) */
#define UNLOCK_FIRST
#define USERS 2
#define RECORDS 1
#define ONLY P_only_ours
#include "acquire.pml"
