#include "check.h"
TEST(x,"x"){}
