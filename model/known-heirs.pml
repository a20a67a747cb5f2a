/* Breaks no_deadlock: the code as it is. See README.md, "Flaws that are known". */
#define FCNTL_WAITS
#define FCNTL
#define COMMAND
#define CHILDREN 1
#define USERS 1
#define ONLY P_no_deadlock
#include "acquire.pml"
