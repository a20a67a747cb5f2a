/* Breaks nobody_elses: who unlocks before it unlinks lets another one take the
 * file in between, and then removes the other's. (The PID in it is that of a
 * process that has ended: one that lives is respected, lock or no lock.) */
#define UNLOCK_FIRST
#define USERS 2
#define RECORDS 1
#define ONLY P_nobody_elses
#include "acquire.pml"
