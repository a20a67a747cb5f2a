/* Breaks no_deadlock: the code as it is. See README.md, "Flaws that are known". */
#define SPARE_REMOVED
#define USERS 1
#define ONLY P_no_deadlock
#include "acquire.pml"
