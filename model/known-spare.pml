/* Breaks one_holder: the code as it is. See README.md, "Flaws that are known". */
#define KNOWN_SPARE
#define SHORT_WINDOW
#define USERS 2
#define RECORDS 1
#define REMOVALS 1
#define ONLY P_one_holder
#include "acquire.pml"
