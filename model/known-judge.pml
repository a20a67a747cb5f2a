/* Breaks only_ours: the code as it is. See README.md, "Flaws that are known". */
#define SHORT_WINDOW
#define WRITER
#define USERS 1
#define ONLY P_only_ours
#include "acquire.pml"
