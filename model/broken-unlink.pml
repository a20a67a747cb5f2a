/* Breaks nobody_elses: who unlocks before it unlinks removes the file of
 * the one that has taken it in between. */
#define UNLOCK_FIRST
#define USERS 2
#define ROUNDS 2
#define ONLY P_nobody_elses
#include "acquire.pml"
