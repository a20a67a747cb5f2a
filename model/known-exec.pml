/* Breaks nobody_elses: the code as it is. See README.md, "Flaws that are known". */
#define EXEC_FAILS
#define USERS 2
#define RECORDS 1
#define ONLY P_nobody_elses
#include "acquire.pml"
