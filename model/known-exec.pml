/*
 * Breaks nobody_elses: a flaw of the code, not of a variant. See README.md, "The
 * flaws that are known".
 */
#define EXEC_FAILS
#define USERS 2
#define RECORDS 1
#define ONLY P_nobody_elses
#include "acquire.pml"
