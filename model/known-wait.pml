/* Breaks honest_refusal: the code as it is. See README.md, "Flaws that are known". */
#define KNOWN_WAIT
#define FCNTL
#define USERS 1
#define ONLY P_honest_refusal
#include "acquire.pml"
