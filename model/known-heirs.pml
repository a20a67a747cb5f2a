/*
 * Breaks no_deadlock: a flaw of the code, not of a variant. See README.md, "The
 * flaws that are known".
 */
#define FCNTL_WAITS
#define FCNTL
#define COMMAND
#define CHILDREN 1
#define USERS 1
#define ONLY P_no_deadlock
#include "acquire.pml"
